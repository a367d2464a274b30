from .config import Config as Config
from .propose import propose as propose
