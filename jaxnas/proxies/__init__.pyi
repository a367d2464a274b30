from .catalogue import CATALOGUE as CATALOGUE
from .scoring import Scores as Scores
from .scoring import score_many as score_many
from .scoring import score_names as score_names
