from . import acquisition as acquisition
from . import batching as batching
from . import benchmarks as benchmarks
from . import curves as curves
from . import datasets as datasets
from . import dpp as dpp
from . import ensembles as ensembles
from . import gp as gp
from . import io as io
from . import kernels as kernels
from . import metrics as metrics
from . import models as models
from . import networks as networks
from . import pareto as pareto
from . import pivoting as pivoting
from . import predictors as predictors
from . import proxies as proxies
from . import ranks as ranks
from . import search as search
from . import spaces as spaces
from . import studies as studies
from . import transport as transport
from . import types as types
from .networks.model_files import load as load

__version__: str
