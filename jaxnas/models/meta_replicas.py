"""Meta-trainings side by side, as one program.

    trained = train_together(keys, models, trainings)
    best, progress = trained[0]

A step of these models is many small operations, between which a GPU waits: trainings from
several seeds take hardly longer than one. On a CPU nothing is gained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.models import meta_training
from jaxnas.models.checkpoint import Progress
from jaxnas.models.meta_data import MetaData
from jaxnas.models.meta_training import Sizes, Training
from jaxnas.models.model import Model
from jaxnas.types import Array


def train_together(
    keys: Array, models: Sequence[Model], trainings: Sequence[Training]
) -> list[tuple[Model, Progress]]:
    """Trains models as `meta_training.train` does, all in one program.

    Each has its own learning rate, and keeps the parameters of its lowest validation loss;
    all go on until the last one is finished.

    Args:
      keys: (k,) random keys, those of `train`.
      models: k models of one network with initial parameters.
      trainings: k trainings of the same settings, with data of the same shapes, whose
        features are the same array.

    Returns: as of `train` for each model, to rounding. The progress has no optimiser state,
      so that a training cannot be continued.
    Raises: `ValueError` for models or trainings that differ in more than their arrays, and
      if a loss is not finite.
    """
    _require_alike(models, trainings)
    network, settings = models[0].network, trainings[0]
    epoch, validate = _together(meta_training.sizes_of(network, settings))
    started = [
        meta_training.start(model, settings.rate, key)
        for model, key in zip(models, keys, strict=True)
    ]
    states = [state._replace(opt_state=None, best=None) for state in started]
    variables = _stacked([model.variables for model in models])
    optimizer = _stacked([state.opt_state for state in started])
    best = variables["params"]
    data = _joined([training.data for training in trainings])
    validation = _joined([training.validation for training in trainings])
    while not all(meta_training.finished(s, settings) for s in states):
        rate = [meta_training.next_rate(state, settings) for state in states]
        hyper = optimizer.hyperparams | {"learning_rate": jnp.float32(rate)}
        number = len(states[0].curve) + 1
        drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        variables, optimizer, loss = epoch(
            variables, optimizer._replace(hyperparams=hyper), drawn, data
        )
        losses = np.stack([loss, validate(variables, validation)], 1).tolist()
        ended = [meta_training.finished(state, settings) for state in states]
        states = [
            meta_training.recorded(state, settings, (pair[0], pair[1]))
            for state, pair in zip(states, losses, strict=True)
        ]
        better = [
            meta_training.best_epoch(state) == number and not end
            for state, end in zip(states, ended, strict=True)
        ]
        best = _selected(jnp.array(better), variables["params"], best)
    return [
        _result(model, settings, state, jax.tree.map(lambda x, row=row: x[row], best))
        for row, (model, state) in enumerate(zip(models, states, strict=True))
    ]


def _require_alike(models: Sequence[Model], trainings: Sequence[Training]) -> None:
    """Raises `ValueError` unless the trainings differ in keys, parameters, records only."""
    if not models or len(models) != len(trainings):
        raise ValueError(
            f"wanted a training for each of at least one model, not {len(models)} models "
            f"and {len(trainings)} trainings"
        )
    first = trainings[0]
    for model, training in zip(models, trainings, strict=True):
        if model.network != models[0].network or training[2:] != first[2:]:
            raise ValueError("trainings side by side need one network and one setting")
        for mine, data in zip(training[:2], first[:2], strict=True):
            same = all(a.shape == b.shape for a, b in zip(mine, data, strict=True))
            if not same or mine.x is not data.x:
                raise ValueError(
                    "trainings side by side need data of the same shapes and the same "
                    "features"
                )


@functools.cache
def _together(sizes: Sizes) -> tuple[Callable, Callable]:
    """The programs of `meta_training.programs` for several models that share features."""
    epoch, validate = meta_training.programs(sizes)
    axes: Any = MetaData(*(None, 0, 0, 0, 0, 0))  # type: ignore[arg-type]
    return (
        jax.jit(jax.vmap(epoch, (0, 0, 0, axes))),
        jax.jit(jax.vmap(validate, (0, axes))),
    )


def _stacked(trees: Sequence[Any]) -> Any:
    """Joins trees of arrays along a new first axis."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _joined(data: Sequence[MetaData]) -> MetaData:
    """Stacks the records; the features, which are the same, stay as they are."""
    stacked = [_stacked(arrays) for arrays in zip(*(d[1:] for d in data), strict=True)]
    return MetaData(jnp.asarray(data[0].x), *stacked)


@jax.jit
def _selected(better: Array, new: Any, old: Any) -> Any:
    """Takes new parameters for the models that are better (k,)."""

    def select(a: Array, b: Array) -> Array:
        return jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(select, new, old)


def _result(
    model: Model, settings: Training, state: Progress, best: Any
) -> tuple[Model, Progress]:
    """A trained model, and its progress up to the epoch that would have been its last."""
    lengths = range(1, len(state.curve) + 1)
    curves = (state._replace(curve=state.curve[:n]) for n in lengths)
    ended = next(s for s in curves if meta_training.finished(s, settings))
    variables = {**model.variables, "params": best}
    return Model(model.network, variables), ended._replace(best=best)
