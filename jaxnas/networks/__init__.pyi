from .data import Data as Data
from .model_files import load as load
from .model_files import save as save
from .nasbench201 import NetworkConfig as NetworkConfig
from .recipes import RECIPES as RECIPES
from .recipes import Recipe as Recipe
from .runs import validate_training as validate_training
