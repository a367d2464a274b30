"""Learning-curve surrogates: predicted learning curves of architectures.

`fit` makes a `surrogate` of a compression of curves (`compress`, `vae`), regressors of
its components (`regress_boosting`, `regress_mlp`, `stacking`) and `noise`;
`surrogate_files` keeps it on disk, `jaxnas.benchmarks.surrogate` searches it.

`extrapolate` predicts the final value of an interrupted training from its curve.

`trees` evaluates ensembles of decision trees and chains of them, which `lightgbm_text` and
`xgboost_json` read from model files and `packing` arranges for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
