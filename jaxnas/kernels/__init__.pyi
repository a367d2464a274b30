from .definite import require_negative_definite as require_negative_definite
from .distance_matrices import distance_matrix as distance_matrix
from .feature_maps import hamming_features as hamming_features
from .feature_maps import (
    live_tree_wasserstein_features as live_tree_wasserstein_features,
)
from .feature_maps import nasbot_like_features as nasbot_like_features
from .feature_maps import operation_transport_features as operation_transport_features
from .feature_maps import ordinal_features as ordinal_features
from .feature_maps import path_encoder as path_encoder
from .feature_maps import path_features as path_features
from .feature_maps import tree_wasserstein_features as tree_wasserstein_features
from .gram import Embeddings as Embeddings
from .gram import compress_embeddings as compress_embeddings
from .gram import laplace as laplace
from .graph_distances import fused_gromov_wasserstein as fused_gromov_wasserstein
from .graph_distances import gromov_and_counts as gromov_and_counts
from .graph_distances import gromov_wasserstein as gromov_wasserstein
from .graph_distances import otmann as otmann
from .graph_distances import sinkhorn_divergence as sinkhorn_divergence
from .op_trees import tree_wasserstein as tree_wasserstein
