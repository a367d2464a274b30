from .config import Config as Config
from .proposal import propose as propose
