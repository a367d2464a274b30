"""Networks of NAS-Bench-201 as pure functions, with the architecture as data.

Where to start: `nasbench201` names the axes and has the forward pass, `single_cells` and
`cells` the ways to compute a cell, `apply` a model to call, `train` one compiled epoch,
`runs` whole trainings, `model_files` trained networks on disk. Other spaces would need:

* NAS-Bench-101: 1 x 1 projections of the cell's input, sums of any earlier vertices,
  concatenated outputs, and widths of vertices that follow from the matrix: shapes depend
  on the architecture and must be padded and masked. Also 3 x 3 max pooling, and blocks in
  the order convolution, norm, rectifier.
* DARTS: two cells, normal and reduction, each with two inputs and four vertices of two
  edges; separable and dilated convolutions, max pooling, strides inside the cell, and the
  factorised reduction of an input of another size.

`jaxnas.proxies.scoring.score_many` refuses architectures of other spaces.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
