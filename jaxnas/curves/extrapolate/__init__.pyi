from .last import last_value as last_value
from .types import Extrapolator as Extrapolator
from .types import apply as apply
from .types import observed as observed
