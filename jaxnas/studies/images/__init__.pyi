from .config import Config as Config
from .search import search_images as search_images
