from . import brackets as brackets
from . import curve_gates as curve_gates
from . import samplers as samplers
