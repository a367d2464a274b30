"""Learning-curve surrogates: predicted learning curves of architectures.

`trees` evaluates ensembles of decision trees and chains of them, which `lightgbm_text` and
`xgboost_json` read from model files and `packing` arranges for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
