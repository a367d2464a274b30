"""A toy objective and its searches, for the tests of driven searches."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search import bayesopt, drive, pool
from jaxnas.search.evolution import regularized_evolution
from jaxnas.spaces import base, features
from jaxnas.types import Result

SPACE = base.product("toy", (4,) * 5)
KEY = 3  # no array: importing this module starts no device, see KILLED


def value(arch):
    """Some structure, and a fifth of the cells that fail."""
    number = sum(c * 4**i for i, c in enumerate(arch))
    return math.nan if number % 5 == 2 else math.sin(number) + sum(arch)


def objective(text, epoch):
    assert epoch == 12
    score = value([int(c) for c in text.split(",")])
    if math.isnan(score):
        raise RuntimeError(f"no network for {text}")
    return score


@functools.cache
def evolution(batch=1):
    return regularized_evolution(SPACE, population=8, init=6, batch=batch, epoch=12)


def go(folder, search=None, steps=20, key=KEY, function=objective, **kwargs):
    search = evolution() if search is None else search
    key = jax.random.key(key)
    return drive.optimise(key, search, SPACE, function, steps, folder, **kwargs)


def events(folder, kind):
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def told(history):
    return [(e.step, e.slot, e.arch, e.score) for e in history]


def same(a, b):
    assert [x[:3] for x in told(a)] == [x[:3] for x in told(b)]
    np.testing.assert_array_equal([e.score for e in a], [e.score for e in b])


def evaluate(key, query):
    weight = 4 ** jnp.arange(5)
    number = query.arch @ weight
    score = jnp.sin(number.astype(jnp.float32)) + query.arch.sum(1)
    score = jnp.where(number % 5 == 2, jnp.nan, score)
    return Result(score, score[:, None], jnp.ones_like(score))


@functools.cache
def gaussian():
    hot = features.one_hot_encoder(SPACE.choices)
    cells = pool.make_pool(SPACE, [lambda arch: (hot(arch),)])
    return bayesopt.bayesopt(cells, init=4, epoch=12)
