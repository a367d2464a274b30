"""Settings of the decisions of curve-aware searches: the paper's and its program's.

search = curve_aware(regularized_evolution(space), last_value(), *paper(20))
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Gate(NamedTuple):
    """Epoch and threshold of the decision on a training; arguments of `curve_aware`."""

    epochs: int
    quantile: float
    target: int | None = None


def paper(epochs: int) -> Gate:
    """The gate of the paper: predictions of the last epoch, and the best 20 %.

    Args:
      epochs: of the decision, about 20 % of a training.
    """
    return Gate(epochs, 0.2)


# Epochs of the decision, and the target, of the released program, by surrogate.
_RELEASED_EPOCHS = {"nb111": 12, "nb201": 20, "nb211": 20, "nb311": 20, "nlp11": 10}
_RELEASED_TARGETS = {"nb201": 100, "nb211": 100, "nb311": 48, "nlp11": 49}
# Algorithms whose quantile is 0.5, by surrogate; on nb201 and nb211 all of them.
_RELEASED_MEDIAN = {
    "nb111": {("evolution", "svr"), ("bananas", "svr")},
    "nb311": set(),
    "nlp11": {("evolution", "wpm"), ("bananas", "svr")},
}
# Algorithms whose target on nb111 is its last epoch, 107; the target of the others is 35.
_LATE_TARGETS = {("evolution", "svr"), ("local", "svr")}
_LATE_TARGETS |= {("bananas", "wpm"), ("bananas", "svr")}


def reference(
    surrogate: str,
    algorithm: Literal["evolution", "local", "bananas"],
    extrapolator: Literal["wpm", "svr"],
) -> Gate:
    """The gate of the program that the paper released, with its early targets.

    Args:
      surrogate: nb111, nb201, nb211, nb311 or nlp11.
      algorithm: the wrapped search.
      extrapolator: the weighted probabilistic model, or support vector regression.

    Raises: `ValueError` for another name.
    """
    pair = algorithm, extrapolator
    if surrogate not in _RELEASED_EPOCHS or pair not in {
        (a, e) for a in ("evolution", "local", "bananas") for e in ("wpm", "svr")
    }:
        raise ValueError(
            f"no released settings of {surrogate!r}, {algorithm!r} and {extrapolator!r}: "
            f"wanted one of {', '.join(_RELEASED_EPOCHS)}; evolution, local or bananas; "
            "wpm or svr"
        )
    median = pair in _RELEASED_MEDIAN.get(surrogate, {pair})
    target = _RELEASED_TARGETS.get(surrogate, 107 if pair in _LATE_TARGETS else 35)
    return Gate(_RELEASED_EPOCHS[surrogate], 0.5 if median else 0.2, target)
