"""A toy objective and its searches, for the tests of driven searches."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.predictors import pool
from jaxnas.search import drive
from jaxnas.search.evolution import regularized_evolution
from jaxnas.search.gp import pool_search
from jaxnas.search.neural_predictor import bananas
from jaxnas.search.random import random_search
from jaxnas.spaces import base, features
from jaxnas.types import Result

SPACE = base.product("toy", (4,) * 5)
KEY = 3  # no array: importing this module starts no device, see KILLED


WEIGHT = 4 ** np.arange(5)


@functools.cache
def tables():
    """Scores with some structure and costs, by number: (1024,) float32 each."""
    number = np.arange(4**5)
    score = np.sin(number) + (number[:, None] // WEIGHT % 4).sum(1)
    score = np.where(number % 5 == 2, np.nan, score)  # a fifth of the cells fails
    cost = np.random.default_rng(0).uniform(1, 10, 4**5)
    return score.astype(np.float32), cost.astype(np.float32)


def value(arch):
    return float(tables()[0][np.asarray(arch) @ WEIGHT])


def parsed(text):
    return [int(c) for c in text.split(",")]


def objective(text, epoch):
    assert epoch == 12
    score = value(parsed(text))
    if math.isnan(score):
        raise RuntimeError(f"no network for {text}")
    return score


@functools.cache
def evolution(batch=1):
    return regularized_evolution(SPACE, population=8, init=6, batch=batch, epoch=12)


def go(folder, search=None, steps=20, key=KEY, function=objective, **kwargs):
    search = evolution() if search is None else search
    key = jax.random.key(key)
    return drive.optimise(key, search, function, steps, folder, **kwargs)


def events(folder, kind):
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def scored(history):
    return [(e.step, e.slot, e.arch, e.score) for e in history]


def same(a, b):
    assert [x[:3] for x in scored(a)] == [x[:3] for x in scored(b)]
    np.testing.assert_array_equal([e.score for e in a], [e.score for e in b])


def costly(text):
    """The objective that also returns its cost, whatever the epoch."""
    number = parsed(text) @ WEIGHT
    score, cost = (float(table[number]) for table in tables())
    return {"score": score, "cost": cost}


def evaluate(key, query):
    del key
    number = query.arch @ jnp.asarray(WEIGHT)
    score, cost = (jnp.asarray(table)[number] for table in tables())
    return Result(score, score[:, None], cost)


def linear_ensemble(key, x, y, count, pool):
    """Ridge regressions of perturbed targets: a real predictor, quickly compiled."""
    seen = (jnp.arange(len(y)) < count)[:, None]
    x = jnp.where(seen, x, 0.0)
    y = jnp.where(seen, y[:, None] + 0.3 * jax.random.normal(key, (len(y), 3)), 0.0)
    weights = jnp.linalg.solve(x.T @ x + 0.5 * jnp.eye(x.shape[1]), x.T @ y)
    return (pool @ weights).T


@functools.cache
def gaussian():
    hot = features.one_hot_encoder(SPACE.choices)
    # Without ties: no two cells have the same distances to all others.
    scales = 1 + jnp.arange(20) / 7
    cells = pool.make_pool(SPACE, [lambda arch: (hot(arch) * scales,)])
    return pool_search.bayesopt(cells, init=4, epoch=12)


SEARCHES = {
    "random": lambda: random_search(SPACE),
    "random without repeats": lambda: random_search(SPACE, capacity=60),
    "evolution": lambda: regularized_evolution(SPACE, population=8, init=6),
    "bananas": lambda: bananas(
        SPACE,
        features.one_hot_encoder(SPACE.choices),
        init=6,
        round_size=5,
        candidates=20,
        ensemble=linear_ensemble,
    ),
    "bayesopt": gaussian,
}


@functools.cache
def make(name):
    """One search object for all tests of it, so that its programs are compiled once."""
    return SEARCHES[name]()
