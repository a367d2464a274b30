"""The networks that are searched over: pure functions, the architecture as data.

There are those of NAS-Bench-201. What is missing for others:

* NAS-Bench-101: a vertex takes 1 x 1 projections of the cell's input and sums of any
  vertices before it, outputs are concatenated, and the widths of vertices follow from
  the matrix: shapes that depend on the architecture, to be padded and masked. Its
  3 x 3 max pooling and the order convolution, norm, rectifier are missing as well.
* DARTS: two cells, normal and reduction, each with two inputs and four vertices of two
  edges; separable and dilated convolutions, max pooling, strides inside of the cell,
  and the factorised reduction of an input of another size.

`jaxnas.proxies.scoring.score_many` refuses architectures of other spaces.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
