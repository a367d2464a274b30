"""Search spaces: architectures as int32 vectors, their identity, graphs and neighbours.

The published spaces are `SPACE` of `nasbench101`, `nasbench201`, `darts`, `nlp` (recurrent
cells) and `mobilenetv3` (chains of layers). `product` makes a space of independent
choices, and `restricted` one of some architectures of another. `nasbench201_classes` says
which cells compute the same function; `encodings`, `darts_features` and `nlp_features`
have the vectors that published predictors take; `darts_formats`, `darts_text`,
`nlp_formats` and `mobilenetv3_formats` have the notations of other programs;
`mobilenetv3_counts` has multiply-adds and parameters.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
