from .ensemble import mlp_ensemble as mlp_ensemble
from .few_labels import features_by_architecture as features_by_architecture
from .few_labels import ridge as ridge
from .few_labels import savage_scores as savage_scores
from .pool import Pool as Pool
from .pool import index_of as index_of
from .pool import make_pool as make_pool
