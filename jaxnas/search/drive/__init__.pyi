from .batch_objective import BatchObjective as BatchObjective
from .clusters import ray_executor as ray_executor
from .driver import optimise as optimise
from .history import Evaluation as Evaluation
from .reports import Status as Status
from .reports import best as best
from .reports import read as read
from .reports import status as status
