from .checks import BatchObjective as BatchObjective
from .driver import optimise as optimise
from .executors import ray_executor as ray_executor
from .history import Evaluation as Evaluation
from .reports import Status as Status
from .reports import best as best
from .reports import read as read
from .reports import status as status
