"""Time of k-DPPs: draws from one kernel, from a new kernel, and the greedy choice."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from dppy.finite_dpps import FiniteDPP

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas import dpp

draws = jax.jit(jax.vmap(dpp.draw, (0, None)))
sample = jax.jit(dpp.sample, static_argnums=2)
greedy = jax.jit(dpp.greedy_map, static_argnums=1)


def kdpp(config: Config) -> list[Measurement]:
    """Times draws of `config.subset` of `config.items` items, and the greedy choice.

    Raises: `ValueError` if jaxnas and a peer draw from different distributions, or choose
      subsets of different determinants.
    """
    n, k, num = config.items, config.subset, config.draws
    kernel = similarity(n)
    size = f"k-DPP, {k} of {n} items"
    with timing.one_core():
        rows = _many(f"a draw of {size}, from {num:,} draws of one kernel", config)
        calls = {
            "jaxnas in float32": _one(kernel, k, False),
            "jaxnas in float64": _one(kernel, k, True),
            "DPPy": lambda: peer(kernel).sample_exact_k_dpp(k, random_state=0),
        }
        title = f"one draw of {size}, a new kernel"
        rows += _measure(title, "ms", 1e3, calls, config.repeats)
        calls = {
            "jaxnas in float32": _greedy(kernel, k),
            "NumPy, incremental Cholesky": lambda: numpy_greedy(kernel, k),
            "NumPy, a determinant for each item": lambda: naive_greedy(kernel, k),
        }
        title = f"the greedy choice of {size}"
        rows += _measure(title, "ms", 1e3, calls, config.repeats)
    value = log_det(kernel, np.array([call() for call in calls.values()]))
    if not np.ptp(value) < 1e-3:  # other choices may be as good, up to rounding
        raise ValueError(f"greedy choices have log determinants {value}")
    return rows


def similarity(num: int) -> np.ndarray:
    """A Gaussian kernel (n, n) of random points with qualities, of full rank."""
    rng = np.random.default_rng(0)
    points, quality = rng.normal(size=(num, 5)), np.exp(0.5 * rng.normal(size=num))
    apart = ((points[:, None] - points[None]) ** 2).sum(-1)
    return quality[:, None] * np.exp(-apart / 2) * quality + 1e-3 * np.eye(num)


def peer(kernel: np.ndarray) -> FiniteDPP:
    """DPPy's process; it keeps eigenpairs and polynomials after the first draw."""
    return FiniteDPP("likelihood", L=kernel)


def _many(title: str, config: Config) -> list[Measurement]:
    """Times draws (num, k) from one kernel, after its eigendecomposition.

    Args:
      title: of the group.
      config: the numbers of items, of those drawn, and of draws.

    Raises: `ValueError` if the programs draw from different distributions.
    """
    kernel, k, num = similarity(config.items), config.subset, config.draws
    ready = peer(kernel)
    state = np.random.RandomState(0)

    def theirs() -> np.ndarray:
        # Every draw is kept in a list, which would grow from round to round.
        ready.flush_samples()
        draw = ready.sample_exact_k_dpp
        return np.array([draw(k, random_state=state) for _ in range(num)])

    calls = {
        "jaxnas in float32": _draws(kernel, k, num, False),
        "jaxnas in float64": _draws(kernel, k, num, True),
        "DPPy, eigenpairs and polynomials ready": theirs,
    }
    rows = _measure(title, "us", 1e6 / num, calls, config.repeats)
    require_same_distribution(
        {name.split(",")[0]: call() for name, call in calls.items()}, kernel
    )
    return rows


def _draws(kernel: np.ndarray, k: int, num: int, double: bool):
    """Draws (num, k) from one kernel, whose eigenpairs are ready."""
    with jax.enable_x64(double):
        eigen = dpp.decompose(jnp.asarray(kernel), k)
        keys = jax.random.split(jax.random.key(0), num)

    def call() -> np.ndarray:
        with jax.enable_x64(double):
            return np.asarray(draws(keys, eigen))

    return call


def _one(kernel: np.ndarray, k: int, double: bool):
    """One draw (k,), with the eigendecomposition of the kernel."""
    with jax.enable_x64(double):
        given, key = jnp.asarray(kernel), jax.random.key(0)

    def call() -> np.ndarray:
        with jax.enable_x64(double):
            return np.asarray(sample(key, given, k))

    return call


def _greedy(kernel: np.ndarray, k: int):
    """The greedy choice of k items by jaxnas, as a call without arguments."""
    given = jnp.float32(kernel)
    return lambda: np.asarray(greedy(given, k)).tolist()


def _measure(title: str, unit: str, factor: float, calls: dict, repeats: int):
    """Times calls in turn, multiplied by `factor` to the unit."""
    times = timing.in_turn(calls, repeats)
    scaled = {name: t.scaled(factor) for name, t in times.items()}
    return timing.compare(title, unit, scaled)


def require_same_distribution(drawn: dict[str, np.ndarray], kernel: np.ndarray) -> None:
    """Compares draws (num, k) of several programs by their mean log determinants.

    Raises: `ValueError` unless these agree to five standard errors.
    """
    value = {name: log_det(kernel, draws) for name, draws in drawn.items()}
    one, *others = value
    for other in others:
        a, b = value[one], value[other]
        error = np.sqrt(a.var() / len(a) + b.var() / len(b))
        if not abs(a.mean() - b.mean()) <= 5 * error:
            raise ValueError(
                f"{one} and {other} draw from different distributions: their mean log "
                f"determinants are {a.mean():.3f} and {b.mean():.3f}"
            )


def log_det(kernel: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    """Log determinants (s,) of the blocks of `subsets` (s, k)."""
    return np.linalg.slogdet(kernel[subsets[:, :, None], subsets[:, None]])[1]


def numpy_greedy(kernel: np.ndarray, k: int) -> list[int]:
    """The recursion of `dpp.greedy_map` (Chen et al., 2018), in NumPy."""
    left, rows, chosen = np.diag(kernel).copy(), np.zeros((k, len(kernel))), []
    for step in range(k):
        i = int(np.argmax(left))
        chosen.append(i)
        rows[step] = (kernel[i] - rows[:step, i] @ rows[:step]) / np.sqrt(left[i])
        left -= rows[step] ** 2
        left[i] = -np.inf
    return chosen


def naive_greedy(kernel: np.ndarray, k: int) -> list[int]:
    """Adds the item that gives the largest determinant, k times."""
    chosen: list[int] = []
    for _ in range(k):
        rest = [i for i in range(len(kernel)) if i not in chosen]
        subsets = np.array([[*chosen, i] for i in rest])
        chosen.append(rest[int(np.argmax(log_det(kernel, subsets)))])
    return chosen
