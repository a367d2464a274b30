from . import brackets as brackets
from . import curve_gates as curve_gates
from . import freeze_thaw as freeze_thaw
from . import samplers as samplers
