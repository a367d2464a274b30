"""Determinantal point processes of fixed size: diverse subsets of k of n items.

A k-DPP with kernel L draws a set S of k items with probability det(L_S) / e_k, where e_k
is the k-th elementary symmetric polynomial of the eigenvalues (Kulesza and Taskar, 2012,
section 5.2). The kernel c L is the same k-DPP.

Every function takes one kernel. Many draws of it share its `decompose`:
`jax.vmap(draw, (0, None))(keys, decompose(kernel, k))`; many kernels are
`jax.vmap(partial(sample, k=k))(keys, kernels)`. Bad values are told where they are at
hand, outside `jit` and `vmap`; inside, only bad shapes can be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxnas.types import Array, check_shapes

# How asymmetric or indefinite a kernel may be: more than a float32 posterior's rounding.
_TOLERANCE = 1e-3


class Decomposition(NamedTuple):
    """All that draws of k items from one kernel have in common."""

    kernel: Array  # (n, n) symmetric, scaled to the largest eigenvalue 1
    values: Array  # (n,) its eigenvalues, ascending; rounding may leave some below 0
    vectors: Array  # (n, n) eigenvectors, in columns
    accept: Array  # (k, n) P(vector j is in | so are l + 1 of the first j + 1), (l, j)
    log_normaliser: Array  # () log e_k of the eigenvalues


def quality_diversity(score: Array, cov: Array, temperature: float = 1.0) -> Array:
    """The kernel L = diag(q) cov diag(q), q = exp(score / temperature).

    A subset weighs det(cov_S) times the squared qualities of its items (Kulesza and
    Taskar, 2012, section 3.1). With the mean and covariance of a posterior this is the
    k-DPP of Nguyen et al. (2021), whose program, though, multiplies the three matrices
    entry by entry: that leaves a diagonal, and no diversity at all.

    Args:
      score: (n,), higher is better: the mean of a posterior, or a utility in such units;
        of a positive utility take the logarithm. -inf, and in `jit` NaN, is quality 0.
      cov: (n, n) covariance or similarity, positive semi-definite.
      temperature: () positive: the lower, the more quality outweighs diversity.

    Returns: (n, n), with the largest q scaled to 1, which changes no k-DPP. A quality so
      low that its square would underflow is raised: to e^-39 in float32.

    Raises: `ValueError` for shapes that do not fit, or values that are not as said.
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
    # inf - inf has no value, and the best needs none.
    below = jnp.where(score == best, 0.0, (score - best) / temperature).astype(dtype)
    lowest = 0.45 * math.log(jnp.finfo(dtype).tiny)
    quality = jnp.where(allowed, jnp.exp(jnp.maximum(below, lowest)), 0.0)
    return quality[:, None] * cov * quality


def decompose(kernel: Array, k: int) -> Decomposition:
    """The part of sampling that needs no key, in O(n^3).

    Args:
      kernel: (n, n) symmetric, positive semi-definite.   k: between 1 and n, static.

    Raises: `ValueError` for a k or a kernel that is not of this kind, and for a k above
      the numerical rank; of that inside `jit`, see `draw`.
    """
    found = _decompose(_checked(kernel, k), k)
    if _known(found.values):
        low, rank = float(found.values[0]), int(numerical_rank(found))
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
    return found


@partial(jax.jit, static_argnums=1)
def _decompose(kernel: Array, k: int) -> Decomposition:
    # Or eigh might overflow; by a power of two whose reciprocal is no subnormal number.
    power = jnp.frexp(_or_one(jnp.abs(kernel).max()))[1]
    power = jnp.minimum(power, int(jnp.finfo(kernel.dtype).maxexp) - 2)
    kernel = kernel / jnp.ldexp(jnp.ones((), kernel.dtype), power)
    values, vectors = jnp.linalg.eigh(kernel, symmetrize_input=False)
    kernel, values = (x / _or_one(values[-1]) for x in (kernel, values))
    ratio, accept = _symmetric_ratios(jnp.maximum(values, 0.0), k)
    return Decomposition(kernel, values, vectors, accept, jnp.log(ratio).sum())


def numerical_rank(decomposition: Decomposition) -> Array:
    """How many eigenvalues exceed n eps times the largest: () int32."""
    values = decomposition.values
    return jnp.sum(values > len(values) * jnp.finfo(values.dtype).eps, dtype=jnp.int32)


@jax.jit
def draw(key: Array, decomposition: Decomposition) -> Array:
    """One exact draw: (k,) int32, different items in the order of their choice.

    First k eigenvectors are drawn (Kulesza and Taskar, 2012, algorithm 8), then items
    one by one from the projection on them, by their residual norms. By Cholesky's
    recursion (Tremblay et al., 2018, algorithm 3) no column is eliminated, and nothing
    divided but by the norm of an item that was drawn for it.

    Where k exceeds the numerical rank, which nobody can be told inside `jit`, the items
    are drawn one by one by their conditional variance given those before (adaptive
    sampling, Deshpande and Vempala, 2006); where that is 0 for all that remain, by their
    variance; where that is 0 or NaN, uniformly. Never is an item drawn twice.
    """
    kernel, _, vectors, accept, _ = decomposition
    k, num = accept.shape
    exact = numerical_rank(decomposition) >= k
    uniform = jax.random.uniform(key, (num + 2 * k,), kernel.dtype)
    chosen = vectors[:, _eigenvectors(uniform[:num] < accept)]
    diagonal = jnp.where(exact, jnp.sum(chosen**2, axis=1), jnp.diagonal(kernel))
    row = lambda i: jnp.where(exact, _product(chosen, chosen[i]), kernel[i])  # noqa: E731
    items = uniform[num:].reshape(k, 2)
    choose = lambda step, weight: _categorical(items[step], weight)  # noqa: E731
    return _cholesky(row, diagonal, k, choose)[0]


def sample(key: Array, kernel: Array, k: int) -> Array:
    """One `draw` (k,) of the k-DPP of `kernel` (n, n).

    Raises: `ValueError` as `decompose`.
    """
    return draw(key, decompose(kernel, k))


def log_probability(decomposition: Decomposition, subset: Array) -> Array:
    """log det(L_S) - log e_k () of a `subset` S (k,), in any order.

    It is -inf where the determinant is 0 to rounding, as for a subset that holds an item
    twice, and NaN where k exceeds the numerical rank: then no subset has a probability.

    Raises: `ValueError` unless `subset` holds the places of k items.
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
    pivot = _cholesky(lambda i: block[i], jnp.diagonal(block), k, in_order)[1]
    value = jnp.log(pivot).sum() - decomposition.log_normaliser
    return jnp.where(numerical_rank(decomposition) >= k, value, jnp.nan)


def greedy_map(kernel: Array, k: int) -> Array:
    """The items that one by one add most to log det(L_S) (Chen et al., 2018, alg. 1).

    Args:
      kernel: (n, n) symmetric, positive semi-definite.   k: between 1 and n, static.

    Returns: (k,) int32, in the order of their choice, in O(n k^2). Of equals, the first.

    Raises: `ValueError` for a k or a kernel that is not of this kind, and for a k so
      large that the determinant becomes 0; inside `jit`, largest variances follow.
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
    return _cholesky(lambda i: kernel[i], jnp.diagonal(kernel), k, largest)


def _symmetric_ratios(values: Array, k: int) -> tuple[Array, Array]:
    """Ratios (k,) of symmetric polynomials of `values` (n,), and `accept` (k, n).

    Of the values so far let E_l be the polynomials and R_l = E_l / E_(l-1). The recursion
    E_l <- E_l + v E_(l-1) becomes R_l <- (R_l + v) R_(l-1) / (R_(l-1) + v), and v is in
    the subset with probability v / (R_l + v). Polynomials leave the range of float32;
    ratios are of the size of the values, and their relative errors do not grow.
    """

    def add(ratio: Array, value: Array) -> tuple[Array, Array]:
        total = ratio + value
        safe = _or_one(total)  # 0 while fewer than l values are positive
        share = (ratio / safe)[:-1]
        return total * jnp.concatenate([jnp.ones_like(safe[:1]), share]), value / safe

    ratio, accept = jax.lax.scan(add, jnp.zeros(k, values.dtype), values)
    return ratio, accept.T


def _eigenvectors(accepted: Array) -> Array:
    """Places (k,) of the drawn eigenvectors, ascending, from `accepted` (k, n) bool."""
    place = jnp.arange(accepted.shape[1], dtype=jnp.int32)

    def take(end: Array, row: Array) -> tuple[Array, Array]:
        # With l + 1 still to draw, it is the last that row l accepts before the previous.
        found = jnp.max(jnp.where(row & (place < end), place, 0))
        return found, found

    return jax.lax.scan(take, jnp.int32(len(place)), accepted, reverse=True)[1]


def _cholesky(row: Callable, diagonal: Array, k: int, choose: Callable) -> tuple:
    """k steps of the Cholesky factorisation of a matrix (n, n) in an order of choice.

    Args:
      row: place () -> (n,), a row of the matrix.   diagonal: (n,) of the matrix.
      choose: (step (), weight (n,)) -> place () of positive weight. Weights are residuals
        of the diagonal; if all are 0, the diagonal; if that is 0, ones; 0 where used.

    Returns: places (k,) int32, and the residuals (k,) of the diagonal there, which are
      exactly 0 where there is nothing but rounding.
    """
    num, dtype = diagonal.shape[0], diagonal.dtype
    place = jnp.arange(num, dtype=jnp.int32)
    rounding = 4 * k * jnp.finfo(dtype).eps * diagonal
    has_any = (diagonal > 0).astype(jnp.int32)

    def step(state: tuple, number: Array) -> tuple[tuple, tuple]:
        factor, residual, free = state
        tier = jnp.where(free, has_any + (residual > 0), -1)
        weight = jnp.where(residual > 0, residual, jnp.where(has_any, diagonal, 1.0))
        i = choose(number, jnp.where(tier == tier.max(), weight, 0.0))
        pivot = residual[i]
        column = row(i) - _product(factor.T, factor[:, i])
        # A place without a residual explains nothing.
        column = jnp.where(pivot > 0, column * jax.lax.rsqrt(_or_one(pivot)), 0.0)
        residual = residual - column**2
        residual = jnp.where(residual > rounding, residual, 0.0)
        state = factor.at[number].set(column), residual, free & (place != i)
        return state, (i, pivot)

    state = jnp.zeros((k, num), dtype), diagonal, place >= 0
    return jax.lax.scan(step, state, jnp.arange(k, dtype=jnp.int32), unroll=5)[1]


def _categorical(uniform: Array, weight: Array) -> Array:
    """A place () int32 with the probability of its `weight` (n,), by two uniforms (2,)."""
    # A block, then a place in it: cumulative sums over all would take most of the time.
    width = math.isqrt(len(weight) - 1) + 1
    blocks = jnp.pad(weight, (0, width**2 - len(weight))).reshape(width, width)
    i = _inverse(uniform[0], blocks.sum(1))
    return i * width + _inverse(uniform[1], blocks[i])


def _inverse(uniform: Array, weight: Array) -> Array:
    """The first place that cumulative weights (n,) reach, never one of weight 0."""
    positive = weight > 0
    # Sums that are rounded each for itself need not ascend, hence the maximum.
    below = jnp.where(positive, jnp.cumsum(weight), 0.0)
    reached = positive & (below > uniform * below.max())
    return jnp.argmax(positive.astype(jnp.int32) + reached).astype(jnp.int32)


def _product(x: Array, y: Array) -> Array:
    """x (n, k) times y (k,), never in the reduced precision of an accelerator's dots."""
    return jnp.sum(x * y, axis=1)


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
    return not isinstance(x, Tracer)


def _or_one(x: Array) -> Array:
    """A divisor: `x` where it is positive, else 1."""
    return jnp.where(x > 0, x, jnp.ones_like(x))
