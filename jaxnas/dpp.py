"""Determinantal point processes of fixed size: diverse subsets of k of n items.

A k-DPP with kernel L draws a set S of k items with probability det(L_S) / e_k, where e_k
is the k-th elementary symmetric polynomial of the eigenvalues (Kulesza and Taskar, 2012,
section 5.2). The kernel c L is the same k-DPP.

Every function takes one kernel. Many draws of it share its `decompose`:
`jax.vmap(draw, (0, None))(keys, decompose(kernel, k))`; many kernels are
`jax.vmap(partial(sample, k=k))(keys, kernels)`. Bad values raise errors outside `jit` and
`vmap`; inside, where values are unknown, only bad shapes do.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnas.pivoting import or_one, pivoted_cholesky, product, weighted_choice
from jaxnas.types import Array, check_shapes

# How asymmetric or indefinite a kernel may be: more than a float32 posterior's rounding.
_TOLERANCE = 1e-3


class Decomposition(NamedTuple):
    """The part of a draw of k items that depends on the kernel alone."""

    kernel: Array  # (n, n) symmetric, scaled to the largest eigenvalue 1
    values: Array  # (n,) its eigenvalues, ascending; rounding may leave some below 0
    vectors: Array  # (n, n) eigenvectors, in columns
    accept: Array  # (k, n) P(vector j is in | so are l + 1 of the first j + 1), (l, j)
    log_normaliser: Array  # () log e_k of the eigenvalues


def quality_diversity(score: Array, cov: Array, temperature: float = 1.0) -> Array:
    """Builds the kernel L = diag(q) cov diag(q), q = exp(score / temperature).

    A subset weighs det(cov_S) times the squared qualities of its items (Kulesza and
    Taskar, 2012, section 3.1). With the mean and covariance of a posterior this is the
    k-DPP of Nguyen et al. (2021). Their program multiplies the three matrices entry by
    entry, which leaves a diagonal matrix and no diversity.

    Args:
      score: (n,), higher is better: the mean of a posterior, or a utility in such units;
        of a positive utility take the logarithm. -inf, and in `jit` NaN, is quality 0.
      cov: (n, n) covariance or similarity, positive semi-definite.
      temperature: () positive: the lower, the more quality outweighs diversity.

    Returns: (n, n), with the largest q scaled to 1, which changes no k-DPP. A quality so
      low that its square would underflow is raised: to e^-39 in float32.

    Raises: `ValueError` for shapes that do not fit, or values out of range.
    """
    check_shapes(score=(score, "n"), cov=(cov, "nn"))
    if _known(score) and not (np.asarray(score) < np.inf).all():
        raise ValueError("score must be finite or -inf: it holds NaN or inf")
    if _known(cov) and not np.isfinite(np.asarray(cov)).all():
        raise ValueError("cov must be finite: it holds NaN or inf")
    if _known(temperature) and not 0 < float(temperature) < math.inf:
        raise ValueError(f"temperature must be positive and finite, not {temperature}")
    dtype = jnp.result_type(jnp.asarray(score), jnp.asarray(cov), jnp.float32)
    score, cov = jnp.asarray(score, dtype), jnp.asarray(cov, dtype)
    allowed = score > -jnp.inf
    best = jnp.max(score, where=allowed, initial=-jnp.inf)
    # inf - inf is NaN; the best item has exponent 0 in any case.
    below = jnp.where(score == best, 0.0, (score - best) / temperature).astype(dtype)
    lowest = 0.45 * math.log(jnp.finfo(dtype).tiny)
    quality = jnp.where(allowed, jnp.exp(jnp.maximum(below, lowest)), 0.0)
    return quality[:, None] * cov * quality


def decompose(kernel: Array, k: int) -> Decomposition:
    """Decomposes a kernel for draws of k items, in O(n^3).

    Args:
      kernel: (n, n) symmetric, positive semi-definite.
      k: number of items, between 1 and n, static.

    Raises: `ValueError` for a kernel or a k that is not as described, and for a k above
      the numerical rank; inside `jit` see `draw` for that.
    """
    decomposition = _decompose(_checked(kernel, k), k)
    if _known(decomposition.values):
        low = float(decomposition.values[0])
        rank = int(numerical_rank(decomposition))
        if low < -_TOLERANCE:
            raise ValueError(
                "kernel must be positive semi-definite: its smallest eigenvalue is "
                f"{low:.2g} times its largest"
            )
        if rank < k:
            raise ValueError(
                f"k must be at most {rank}, the numerical rank of the kernel (its "
                f"eigenvalues above n eps times the largest), not {k}"
            )
    return decomposition


@partial(jax.jit, static_argnums=1)
def _decompose(kernel: Array, k: int) -> Decomposition:
    # Scaled, since eigh might overflow; by a power of two, which rounds nothing. Not
    # divided: XLA would join both divisions to one, by a number that may overflow.
    power = jnp.frexp(or_one(jnp.abs(kernel).max()))[1]
    limit = int(jnp.finfo(kernel.dtype).maxexp) - 2
    power = jnp.clip(power, -limit, limit)
    kernel = kernel * jnp.ldexp(jnp.ones((), kernel.dtype), -power)
    values, vectors = jnp.linalg.eigh(kernel, symmetrize_input=False)
    kernel, values = (x / or_one(values[-1]) for x in (kernel, values))
    ratio, accept = _symmetric_ratios(jnp.maximum(values, 0.0), k)
    return Decomposition(kernel, values, vectors, accept, jnp.log(ratio).sum())


def numerical_rank(decomposition: Decomposition) -> Array:
    """Counts the eigenvalues above n eps times the largest: () int32."""
    values = decomposition.values
    return jnp.sum(values > len(values) * jnp.finfo(values.dtype).eps, dtype=jnp.int32)


@jax.jit
def draw(key: Array, decomposition: Decomposition) -> Array:
    """Draws exactly from a k-DPP: (k,) int32, different items in the order of their choice.

    First k eigenvectors are drawn (Kulesza and Taskar, 2012, algorithm 8), then items
    one by one from the projection on them, by their residual norms. By Cholesky's
    recursion (Tremblay et al., 2018, algorithm 3) no column is eliminated, and the only
    divisors are norms of items that were drawn for these norms.

    If k exceeds the numerical rank, which cannot raise an error inside `jit`, items are
    drawn one by one by their conditional variance given those before (adaptive sampling,
    Deshpande and Vempala, 2006); if that is 0 for all that remain, by their variance; if
    that is 0 or NaN, uniformly. No item is drawn twice.

    Args:
      key: () PRNG key.
      decomposition: of the kernel, for this k.
    """
    kernel, _, vectors, accept, _ = decomposition
    k, num = accept.shape
    exact = numerical_rank(decomposition) >= k
    uniform = jax.random.uniform(key, (num + 2 * k,), kernel.dtype)
    chosen = vectors[:, _eigenvectors(uniform[:num] < accept)]
    diagonal = jnp.where(exact, jnp.sum(chosen**2, axis=1), jnp.diagonal(kernel))
    row = lambda i: jnp.where(exact, product(chosen, chosen[i]), kernel[i])  # noqa: E731
    items = uniform[num:].reshape(k, 2)
    choose = lambda step, weight: weighted_choice(items[step], weight)  # noqa: E731
    return pivoted_cholesky(row, diagonal, k, choose)[0]


def sample(key: Array, kernel: Array, k: int) -> Array:
    """Decomposes a kernel and draws from its k-DPP once.

    Args:
      key: () PRNG key.
      kernel: (n, n) symmetric, positive semi-definite.
      k: number of items, between 1 and n, static.

    Returns: (k,) int32, as `draw`.
    Raises: `ValueError` as `decompose`.
    """
    return draw(key, decompose(kernel, k))


def log_probability(decomposition: Decomposition, subset: Array) -> Array:
    """Computes the log probability log det(L_S) - log e_k of a subset S.

    It is -inf where the determinant is 0 to rounding, as for a subset that holds an item
    twice, and NaN where k exceeds the numerical rank: then no subset has a probability.

    Args:
      decomposition: of the kernel, for this k.
      subset: (k,) integers, items in any order.

    Returns: ().
    Raises: `ValueError` unless `subset` holds the indices of k items.
    """
    subset = jnp.asarray(subset)
    k, num = decomposition.accept.shape
    if subset.shape != (k,) or not jnp.issubdtype(subset.dtype, jnp.integer):
        raise ValueError(f"subset must be {k} integers, not {subset}")
    if _known(subset) and not ((subset >= 0) & (subset < num)).all():
        raise ValueError(f"subset must hold items 0 to {num - 1}, not {subset}")
    return _log_probability(decomposition, subset)


@jax.jit
def _log_probability(decomposition: Decomposition, subset: Array) -> Array:
    k, block = len(subset), decomposition.kernel[subset[:, None], subset]
    in_order = lambda step, weight: step  # noqa: E731
    pivot = pivoted_cholesky(lambda i: block[i], jnp.diagonal(block), k, in_order)[1]
    value = jnp.log(pivot).sum() - decomposition.log_normaliser
    return jnp.where(numerical_rank(decomposition) >= k, value, jnp.nan)


def greedy_map(kernel: Array, k: int) -> Array:
    """Chooses items one by one that add most to log det(L_S) (Chen et al., 2018, alg. 1).

    Args:
      kernel: (n, n) symmetric, positive semi-definite.
      k: number of items, between 1 and n, static.

    Returns: (k,) int32, in the order of their choice, in O(n k^2); of equals, the first.
    Raises: `ValueError` for a kernel or a k that is not as described, and for a k so large
      that the determinant becomes 0; inside `jit`, items of largest variance follow then.
    """
    index, pivot = _greedy_map(_checked(kernel, k), k)
    if _known(pivot) and not (pivot > 0).all():
        rank = int((pivot > 0).argmin())
        raise ValueError(
            f"k must be at most {rank}, the numerical rank of the kernel (given as many "
            f"items, the variance of all others is 0), not {k}"
        )
    return index


@partial(jax.jit, static_argnums=1)
def _greedy_map(kernel: Array, k: int) -> tuple[Array, Array]:
    largest = lambda step, weight: jnp.argmax(weight).astype(jnp.int32)  # noqa: E731
    return pivoted_cholesky(lambda i: kernel[i], jnp.diagonal(kernel), k, largest)


def _symmetric_ratios(values: Array, k: int) -> tuple[Array, Array]:
    """Ratios (k,) of symmetric polynomials of `values` (n,), and `accept` (k, n).

    Of the values so far let E_l be the polynomials and R_l = E_l / E_(l-1). The recursion
    E_l <- E_l + v E_(l-1) becomes R_l <- (R_l + v) R_(l-1) / (R_(l-1) + v), and v is in
    the subset with probability v / (R_l + v). Polynomials leave the range of float32;
    ratios are of the size of the values, and their relative errors do not grow.
    """

    def add(ratio: Array, value: Array) -> tuple[Array, Array]:
        total = ratio + value
        safe = or_one(total)  # 0 while fewer than l values are positive
        share = (ratio / safe)[:-1]
        return total * jnp.concatenate([jnp.ones_like(safe[:1]), share]), value / safe

    ratio, accept = jax.lax.scan(add, jnp.zeros(k, values.dtype), values)
    return ratio, accept.T


def _eigenvectors(accepted: Array) -> Array:
    """Indices (k,) of the drawn eigenvectors, ascending, from `accepted` (k, n) bool."""
    index = jnp.arange(accepted.shape[1], dtype=jnp.int32)

    def take(end: Array, row: Array) -> tuple[Array, Array]:
        # With l + 1 still to draw, it is the last that row l accepts before the previous.
        last = jnp.max(jnp.where(row & (index < end), index, 0))
        return last, last

    return jax.lax.scan(take, jnp.int32(len(index)), accepted, reverse=True)[1]


def _checked(kernel: Array, k: int) -> Array:
    """The kernel, exactly symmetric and floating; raises `ValueError` for bad input."""
    kernel = jnp.asarray(kernel)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"kernel must be square (n, n), not of shape {kernel.shape}")
    num = len(kernel)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= num:
        raise ValueError(f"k must be an int between 1 and the {num} items, not {k}")
    kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    if _known(kernel):
        values = np.asarray(kernel)
        if not np.isfinite(values).all():
            raise ValueError("kernel must be finite: it holds NaN or inf")
        if np.abs(values - values.T).max() > _TOLERANCE * np.abs(values).max():
            raise ValueError("kernel must be symmetric: it differs from its transpose")
    return kernel / 2 + kernel.T / 2


def _known(x: object) -> bool:
    """Whether the values of `x` are at hand, which they are not inside `jit`."""
    return not isinstance(x, Tracer)
