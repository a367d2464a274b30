"""Evaluates ensembles of decision trees, and chains of them, in one compiled function.

Many inputs are evaluated by masks, without a branch or a gather for each node, and few by
walking down all trees at once; `packing.Ensemble` describes both. Neither takes inputs or
thresholds in float32 below 1.2e-38 (denormal numbers) for what they are: XLA's CPU code
takes them for zero. LightGBM and XGBoost do not.

Leaf indices are those of the libraries. Values are summed in the order of the trees, in
the ensemble's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.curves.packing import FULL, WORD, Columns, Ensemble
from jaxnas.types import Array

# Fewer inputs are walked: 15,000 trees of 40 leaves take 0.6 ms for each, by masks 3 ms
# for up to 16.
FEWEST_MASKED = 5
_LANES = 16  # inputs that one vector instruction takes
# Inputs at a time, and a limit on their columns' values: both fit a processor's cache.
_BLOCK, _BLOCK_VALUES = 2048, 2**20
_WALKED = 64
# Nodes of a tree in one step of the loop over them.
_UNROLL = 40
# Below this LightGBM takes a value for zero; the float32 nearest to 1e-35.
_ZERO = float(np.float32(1e-35))


def predict(ensemble: Ensemble, x: Array | np.ndarray) -> Array:
    """The predictions (n,) of an ensemble for inputs `x` (n, f).

    Inputs are converted to the ensemble's precision, to nearest: see
    `packing.round_down` for float64 inputs of an ensemble in float32.

    Raises: `ValueError` unless `x` has as many columns as the model has features.
    """
    return predict_chain((ensemble,), x)[:, 0]


def predict_chain(chain: Sequence[Ensemble], x: Array | np.ndarray) -> Array:
    """The predictions (n, k) of a chain of regressors.

    Regressor j has the features [x, z_0, ..., z_{j-1}], where z_i is the prediction of
    regressor i (scikit-learn's `RegressorChain` in natural order).

    Args:
      chain: k ensembles.
      x: (n, f) inputs; NaN is a missing value.

    Returns: (n, k), in the precision of the last ensemble.
    Raises: `ValueError` unless `x` is (n, f) and ensemble j has f + j features.
    """
    if not chain:
        raise ValueError("a chain needs at least one ensemble")
    x = jnp.asarray(x)
    for j, ensemble in enumerate(chain):
        _check(ensemble, x, j)
    return _predict_chain(tuple(chain), x)


def leaf_indices(ensemble: Ensemble, x: Array | np.ndarray) -> Array:
    """The leaf of each tree that inputs reach, by the index of the model's library.

    Args:
      ensemble: t trees.
      x: (n, f) inputs; NaN is a missing value.

    Returns: (n, t) int32: LightGBM's leaf index (`predict(pred_leaf=True)`), or XGBoost's
      node index.
    Raises: `ValueError` unless `x` has as many columns as the model has features.
    """
    x = jnp.asarray(x)
    _check(ensemble, x, 0)
    return _leaf_indices(ensemble, x)


def _check(ensemble: Ensemble, x: Array, earlier: int) -> None:
    """Raises `ValueError` unless an ensemble takes `x` and `earlier` predictions."""
    wanted = ensemble.num_features - earlier
    if x.ndim != 2 or x.shape[1] != wanted:
        after = f" and {earlier} predictions" if earlier else ""
        raise ValueError(
            f"x must be (n, {wanted}), as the model has {ensemble.num_features} "
            f"features{after}; found {x.shape}"
        )


def _rows_together(function: Callable[..., Array]) -> Callable[..., Array]:
    """Under `vmap` over inputs alone, evaluates all rows as one batch.

    Many inputs together are evaluated by masks, which a loop over batches of one, such as
    many runs of a search side by side, would not be.
    """
    batched = jax.custom_batching.custom_vmap(function)

    @batched.def_vmap
    def rule(size: int, in_batched: tuple, model: object, x: Array):
        if any(jax.tree.leaves(in_batched[0])) or not in_batched[1]:
            axes = jax.tree.map(lambda b: 0 if b else None, in_batched)
            return jax.vmap(function, axes, axis_size=size)(model, x), True
        out = batched(model, x.reshape(size * x.shape[1], *x.shape[2:]))
        return out.reshape(size, x.shape[1], *out.shape[1:]), True

    return jax.jit(batched)


@_rows_together
def _predict_chain(chain: tuple[Ensemble, ...], x: Array) -> Array:
    found: list[Array] = []
    for ensemble in chain:
        dtype = ensemble.value.dtype
        row = jnp.concatenate([x.astype(dtype), *(z[:, None] for z in found)], 1)
        found.append(_predict(ensemble, row))
    return jnp.stack(found, 1)


@_rows_together
def _leaf_indices(ensemble: Ensemble, x: Array) -> Array:
    x = x.astype(ensemble.value.dtype)

    def of_block(columns: Array) -> Array:
        leaf = jax.lax.map(
            lambda tree: _leaf_by_masks(ensemble.strict, columns, *tree[:3]),
            (ensemble.column, ensemble.threshold, ensemble.mask),
        )
        return leaf.T

    if _masked(ensemble, len(x)):
        leaf = _in_blocks(ensemble, of_block, x)
    else:
        leaf = jax.lax.map(lambda row: _walk(ensemble, row), x, batch_size=_WALKED)
    return jnp.take_along_axis(ensemble.number.T, leaf, 0, mode="clip")


def _predict(ensemble: Ensemble, x: Array) -> Array:
    """Predictions (n,) for inputs (n, f) in the ensemble's precision."""
    if _masked(ensemble, len(x)):
        return _in_blocks(ensemble, lambda c: _sum_by_masks(ensemble, c), x)
    return jax.lax.map(lambda row: _sum_of_walk(ensemble, row), x, batch_size=_WALKED)


def _masked(ensemble: Ensemble, num: int) -> bool:
    return ensemble.mask.shape[-1] > 0 and num >= FEWEST_MASKED


def make_columns(ensemble: Ensemble, x: Array) -> Array:
    """What the nodes test (c + s + 1, n), for inputs (n, f)."""
    columns = ensemble.columns
    some = x[:, columns.feature]
    missing = jnp.isnan(some) | (columns.zero & (jnp.abs(some) <= _ZERO))
    parts = [jnp.where(missing, columns.fill, some).T]
    if columns.words.size:
        parts.append(_sides(columns, x[:, columns.set_feature], ensemble.strict).T)
    return jnp.concatenate([*parts, jnp.zeros((1, len(x)), x.dtype)])


def _sides(columns: Columns, x: Array, outside: bool) -> Array:
    """-1 where the category of `x` (n, s) goes to the left, else 1.

    Args:
      columns: with s sets of categories.
      x: (n, s) the feature of each set.
      outside: whether categories in the set go to the right, and all others, which
        includes negative and unknown ones, to the left.
    """
    num, width = columns.words.shape
    category = jnp.trunc(x)
    known = (category >= 0) & (category < width * WORD)
    index = jnp.where(known, category, 0).astype(jnp.int32)
    word = columns.words[jnp.arange(num), index // WORD]
    inside = known & ((word >> (index % WORD).astype(jnp.uint32)) & 1 > 0)
    side = jnp.where(inside != outside, -1, 1).astype(x.dtype)
    return jnp.where(jnp.isnan(x), columns.set_fill, side)


def _in_blocks(
    ensemble: Ensemble, function: Callable[[Array], Array], x: Array
) -> Array:
    """`function` of columns (c, b) -> (b, ...), for inputs (n, f) in blocks of b."""
    width = len(ensemble.columns.feature) + len(ensemble.columns.set_feature) + 1
    most = max(_LANES, min(_BLOCK, _BLOCK_VALUES // width))
    blocks = -(-len(x) // most)
    size = -(-len(x) // (blocks * _LANES)) * _LANES
    padded = jnp.pad(x, ((0, blocks * size - len(x)), (0, 0)))
    out = jax.lax.map(
        lambda some: function(make_columns(ensemble, some)),
        padded.reshape(blocks, size, x.shape[1]),
    )
    return out.reshape(blocks * size, *out.shape[2:])[: len(x)]


def _goes_right(strict: bool, x: Array, threshold: Array) -> Array:
    return (x >= threshold) if strict else (x > threshold)


def _leaf_by_masks(
    strict: bool, columns: Array, column: Array, threshold: Array, mask: Array
) -> Array:
    """The leaf (b,) int32, counted from the left, of one tree with n nodes.

    Args:
      strict: see `Ensemble`.
      columns: (c, b) what the nodes test.
      column: (n,) of each node.
      threshold: (n,) of each node.
      mask: (n, w) leaves that remain where a node sends an input to the right.
    """
    num, width = mask.shape
    full = jnp.full(columns.shape[1], FULL)

    def clear(i: Array, left: tuple[Array, ...]) -> tuple[Array, ...]:
        x = jax.lax.dynamic_index_in_dim(columns, column[i], 0, keepdims=False)
        right = _goes_right(strict, x, threshold[i])
        return tuple(w & jnp.where(right, mask[i, k], FULL) for k, w in enumerate(left))

    left = (full,) * width
    if num:  # a forest of single leaves has no nodes
        left = jax.lax.fori_loop(0, num, clear, left, unroll=min(num, _UNROLL))
    return _lowest_bit(left)


def _lowest_bit(words: Sequence[Array]) -> Array:
    """The index (b,) int32 of the lowest bit that is set in words (b,) uint32."""
    place = jnp.full(words[0].shape, (len(words) - 1) * WORD, jnp.uint32)
    word = words[-1]
    for k in reversed(range(len(words) - 1)):
        place = jnp.where(words[k] > 0, jnp.uint32(k * WORD), place)
        word = jnp.where(words[k] > 0, words[k], word)
    return (place + jax.lax.population_count(~word & (word - 1))).astype(jnp.int32)


def _sum_by_masks(ensemble: Ensemble, columns: Array) -> Array:
    """Predictions (b,) from columns (c, b), a tree after another."""

    def add(total: Array, tree: tuple[Array, ...]) -> tuple[Array, None]:
        *nodes, value = tree
        leaf = _leaf_by_masks(ensemble.strict, columns, *nodes)
        return total + value.at[leaf].get(mode="promise_in_bounds"), None

    nodes = (ensemble.column, ensemble.threshold, ensemble.mask)
    # XGBoost starts from the base score, which rounding makes a difference to.
    base = jnp.full(columns.shape[1], ensemble.base)
    return jax.lax.scan(add, base, (*nodes, ensemble.value))[0] / ensemble.divisor


def _walk(ensemble: Ensemble, x: Array) -> Array:
    """The leaf (t,) int32, counted from the left, of each tree for one input (f,)."""
    columns = make_columns(ensemble, x[None])[:, 0]
    take = lambda values, i: values.at[i].get(mode="promise_in_bounds")  # noqa: E731

    def down(_: Array, node: Array) -> Array:
        value = take(columns, take(ensemble.node_column, node))
        right = _goes_right(ensemble.strict, value, take(ensemble.node_threshold, node))
        return take(ensemble.node_left, node) + right.astype(jnp.int32)

    size = len(ensemble.node_left) // ensemble.num_trees
    root = jnp.arange(ensemble.num_trees, dtype=jnp.int32) * size
    node = jax.lax.fori_loop(0, ensemble.depth, down, root)
    return take(ensemble.node_leaf, node)


def _sum_of_walk(ensemble: Ensemble, x: Array) -> Array:
    """The prediction () for one input (f,)."""
    leaf = _walk(ensemble, x)
    rows = jnp.arange(ensemble.num_trees)
    total = ensemble.value.at[rows, leaf].get(mode="promise_in_bounds").sum()
    return (ensemble.base + total) / ensemble.divisor
