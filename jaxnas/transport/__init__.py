"""Optimal transport: closed forms on trees, and solvers for many small problems at once.

`closed_form`: W1 on a line and on a tree. `matching`, `entropic`, `gromov`: solvers with
a fixed number of steps, for thousands of graphs of a few vertices. `general`: problems of
any size, by ott-jax (the extra `ot`).

The solvers take many problems at once on trailing axes: costs (n, m, ...) and masses
(n, ...), (m, ...). One problem has no trailing axis, and `vmap` works too, but on a CPU
trailing axes are several times faster: sums run over leading axes, and every instruction
serves many problems. Blocks of 64 stay in the cache; `jaxnas.batching.in_blocks` cuts them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
