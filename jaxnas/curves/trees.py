"""Evaluates ensembles of decision trees, and chains of them, in one compiled function.

Trees of up to 128 leaves are evaluated by masks, without a branch, and larger ones by
walking down all trees at once; `packing.Ensemble` describes both. Neither takes inputs in
float32 below 1.2e-38 (denormal numbers) for what they are: XLA's CPU code takes them for
zero. LightGBM and XGBoost do not.

Leaf indices are those of the libraries. Values are summed in the order of the trees, in
the ensemble's precision. On a CPU one tree after another is evaluated for many inputs,
which fit its cache; on accelerators, all trees for many inputs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.batching import rows_together
from jaxnas.curves.columns import WORD, make_columns
from jaxnas.curves.packing import FULL, Ensemble
from jaxnas.types import Array

# Up to so many inputs are evaluated one by one, all trees side by side: 15,000 trees of 40
# leaves take 0.5 ms for each, and 3 ms for up to 16 inputs side by side.
_FEW = 5
_LANES = 16  # inputs that one vector instruction takes
# Inputs side by side, and a limit on their columns' values: both fit a processor's cache.
_BLOCK, _BLOCK_VALUES = 2048, 2**20
_WALKED = 64
# Pairs of an input and a tree that an accelerator evaluates at once.
_PAIRS = 2**22
# Nodes or values in one step of a loop over them.
_UNROLL = 40


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
    width = ensemble.num_features - earlier
    if x.ndim != 2 or x.shape[1] != width:
        after = f" and {earlier} predictions" if earlier else ""
        raise ValueError(
            f"x must be (n, {width}), as the model has {ensemble.num_features} "
            f"features{after}; found {x.shape}"
        )


@rows_together
def _predict_chain(chain: tuple[Ensemble, ...], x: Array) -> Array:
    predictions: list[Array] = []
    for ensemble in chain:
        dtype = ensemble.value.dtype
        row = jnp.concatenate([x.astype(dtype), *(z[:, None] for z in predictions)], 1)
        predictions.append(_predict(ensemble, row))
    return jnp.stack(predictions, 1)


@rows_together
def _leaf_indices(ensemble: Ensemble, x: Array) -> Array:
    x = x.astype(ensemble.value.dtype)
    leaf = _evaluate(
        ensemble,
        lambda columns: _leaves(ensemble, columns),
        lambda columns: _leaves_by_tree(ensemble, columns).T,
        x,
    )
    return jnp.take_along_axis(ensemble.number.T, leaf, 0, mode="clip")


def _predict(ensemble: Ensemble, x: Array) -> Array:
    """Predictions (n,) for inputs (n, f) in the ensemble's precision."""
    of_one, of_block = partial(_sum, ensemble), partial(_sum_by_tree, ensemble)
    return _evaluate(ensemble, of_one, of_block, x)


def _evaluate(
    ensemble: Ensemble,
    of_one: Callable[[Array], Array],
    of_block: Callable[[Array], Array],
    x: Array,
) -> Array:
    """Evaluates the trees in the order that suits the platform.

    Args:
      ensemble: t trees.
      of_one: function of the columns (c,) of one input, all trees side by side.
      of_block: the same function of columns (c, b) -> (b, ...), a tree after another.
      x: (n, f) inputs.

    Returns: (n, ...).
    """
    if ensemble.masked and len(x) > _FEW:
        on_cpu = partial(_in_blocks, ensemble, of_block)
    else:
        size = None if ensemble.masked else _WALKED
        on_cpu = partial(_in_batches, ensemble, of_one, size)
    size = max(1, _PAIRS // ensemble.num_trees)
    on_accelerator = partial(_in_batches, ensemble, of_one, size)
    return jax.lax.platform_dependent(x, cpu=on_cpu, default=on_accelerator)


def _in_blocks(
    ensemble: Ensemble, function: Callable[[Array], Array], x: Array
) -> Array:
    """`function` of columns (c, b) -> (b, ...), for inputs (n, f) in blocks of b.

    Not by `batching.padded_blocks`: b is a multiple of `_LANES`.
    """
    width = len(ensemble.columns.feature) + len(ensemble.columns.set_feature) + 1
    most = max(_LANES, min(_BLOCK, _BLOCK_VALUES // width))
    blocks = -(-len(x) // most)
    size = -(-len(x) // (blocks * _LANES)) * _LANES
    padded = jnp.pad(x, ((0, blocks * size - len(x)), (0, 0)))
    out = jax.lax.map(
        lambda block: function(make_columns(ensemble.columns, block, ensemble.strict)),
        padded.reshape(blocks, size, x.shape[1]),
    )
    return out.reshape(blocks * size, *out.shape[2:])[: len(x)]


def _in_batches(
    ensemble: Ensemble,
    function: Callable[[Array], Array],
    size: int | None,
    x: Array,
) -> Array:
    """`function` of the columns (c,) of one input, for inputs (n, f), `size` at once."""

    def of_row(row: Array) -> Array:
        return function(
            make_columns(ensemble.columns, row[None], ensemble.strict)[:, 0]
        )

    return jax.lax.map(of_row, x, batch_size=size)


def _goes_right(strict: bool, x: Array, threshold: Array) -> Array:
    return (x >= threshold) if strict else (x > threshold)


def _leaf_by_masks(
    strict: bool, columns: Array, column: Array, threshold: Array, mask: Array
) -> Array:
    """The leaf, counted from the left, of b inputs in one tree or of one input in t trees.

    Args:
      strict: see `Ensemble`.
      columns: (c, b) or (c,), what the nodes test.
      column: (n,) or (n, t), of each node.
      threshold: (n,) or (n, t), of each node.
      mask: (n, w) or (n, w, t), leaves that remain where a node sends an input to the
        right.

    Returns: (b,) or (t,) int32.
    """
    num, width = mask.shape[:2]
    one_tree = column.ndim == 1
    left = (
        jnp.full(columns.shape[1:] if one_tree else column.shape[1:], FULL),
    ) * width

    def clear(i: Array, left: tuple[Array, ...]) -> tuple[Array, ...]:
        row = column[i].astype(jnp.int32)
        if one_tree:
            x = jax.lax.dynamic_index_in_dim(columns, row, 0, keepdims=False)
        else:
            x = columns.at[row].get(mode="promise_in_bounds")
        right = _goes_right(strict, x, threshold[i])
        return tuple(w & jnp.where(right, mask[i, k], FULL) for k, w in enumerate(left))

    if num:  # single leaves have no nodes
        unroll = min(num, _UNROLL) if one_tree else 1
        left = jax.lax.fori_loop(0, num, clear, left, unroll=unroll)
    return _lowest_bit(left)


def _lowest_bit(words: Sequence[Array]) -> Array:
    """The index (b,) int32 of the lowest bit that is set in words (b,) uint32."""
    first_bit = jnp.full(words[0].shape, (len(words) - 1) * WORD, jnp.uint32)
    word = words[-1]
    for k in reversed(range(len(words) - 1)):
        first_bit = jnp.where(words[k] > 0, jnp.uint32(k * WORD), first_bit)
        word = jnp.where(words[k] > 0, words[k], word)
    return (first_bit + jax.lax.population_count(~word & (word - 1))).astype(jnp.int32)


def _leaf_in_tree(ensemble: Ensemble, columns: Array, tree: Array) -> Array:
    """The leaf (b,) int32 of one tree, by masks, from columns (c, b)."""
    nodes = (ensemble.column, ensemble.threshold, ensemble.mask)
    last = [jax.lax.dynamic_index_in_dim(x, tree, x.ndim - 1, False) for x in nodes]
    return _leaf_by_masks(ensemble.strict, columns, *last)


def _leaves_by_tree(ensemble: Ensemble, columns: Array) -> Array:
    """The leaves (t, b) int32 of all trees, a tree after another, from columns (c, b)."""
    trees = jnp.arange(ensemble.num_trees)
    return jax.lax.map(lambda tree: _leaf_in_tree(ensemble, columns, tree), trees)


def _sum_by_tree(ensemble: Ensemble, columns: Array) -> Array:
    """Predictions (b,) from columns (c, b), a tree after another."""

    def add(total: Array, tree: tuple[Array, Array]) -> tuple[Array, None]:
        leaf = _leaf_in_tree(ensemble, columns, tree[0])
        return total + tree[1].at[leaf].get(mode="promise_in_bounds"), None

    # XGBoost starts from the base score, which rounding makes a difference to.
    base = jnp.full(columns.shape[1], ensemble.base)
    trees = (jnp.arange(ensemble.num_trees), ensemble.value)
    return jax.lax.scan(add, base, trees)[0] / ensemble.divisor


def _leaves(ensemble: Ensemble, columns: Array) -> Array:
    """The leaves (t,) int32 of all trees for the columns (c,) of one input."""
    if not ensemble.masked:
        return _walk(ensemble, columns)
    nodes = (ensemble.column, ensemble.threshold, ensemble.mask)
    return _leaf_by_masks(ensemble.strict, columns, *nodes)


def _walk(ensemble: Ensemble, columns: Array) -> Array:
    """The same, down from the roots, a level after another."""
    take = lambda values, i: values.at[i].get(mode="promise_in_bounds")  # noqa: E731

    def down(_: Array, node: Array) -> Array:
        x = take(columns, take(ensemble.node_column, node).astype(jnp.int32))
        right = _goes_right(ensemble.strict, x, take(ensemble.node_threshold, node))
        return take(ensemble.node_left, node) + right.astype(jnp.int32)

    size = len(ensemble.node_left) // ensemble.num_trees
    root = jnp.arange(ensemble.num_trees, dtype=jnp.int32) * size
    return take(ensemble.node_leaf, jax.lax.fori_loop(0, ensemble.depth, down, root))


def _sum(ensemble: Ensemble, columns: Array) -> Array:
    """The prediction () for the columns (c,) of one input."""
    leaf = _leaves(ensemble, columns)
    rows = jnp.arange(ensemble.num_trees)
    value = ensemble.value.at[rows, leaf].get(mode="promise_in_bounds")
    # In the order of `_sum_by_tree`, so that a batch gives what its rows give.
    add = lambda total, value: (total + value, None)  # noqa: E731
    total = jax.lax.scan(add, ensemble.base, value, unroll=_UNROLL)[0]
    return total / ensemble.divisor
