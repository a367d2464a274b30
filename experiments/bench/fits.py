"""Time and quality of least-squares fits of eleven families of learning curves."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable

import jax
import numpy as np
from scipy import optimize

from experiments.bench import timing
from experiments.bench.config import Config
from experiments.bench.timing import Measurement
from jaxnas.curves.extrapolate import families, least_squares, pfn_prior

EPOCHS, STARTS, MANY = 50, 4, 32
FIT = jax.jit(least_squares.fit, static_argnums=(0, 3, 4))

LITERATURE: dict[str, Callable[..., np.ndarray]] = {
    "vapor_pressure": lambda x, a, b, c: np.exp(a + b / x + c * np.log(x)),
    "pow3": lambda x, a, c, alpha: c - a * x**-alpha,
    "logloglinear": lambda x, a, b: np.log(a * np.log(x) + b),
    "logpower": lambda x, a, b, c: a / (1 + (x / np.exp(b)) ** c),
    "pow4": lambda x, a, b, c, alpha: c - (a * x + b) ** -alpha,
    "mmf": lambda x, a, b, d, k: a - (a - b) / (1 + (k * x) ** d),
    "exp4": lambda x, a, b, c, alpha: c - np.exp(-a * x**alpha + b),
    "janoschek": lambda x, a, b, k, d: a - (a - b) * np.exp(-k * x**d),
    "weibull": lambda x, a, b, k, d: a - (a - b) * np.exp(-((k * x) ** d)),
    "ilog2": lambda x, a, c: c - a / np.log(x + 1),
    "hill3": lambda x, top, eta, k: top * x**eta / (k**eta + x**eta),
}
"""The families in the parameters of Domhan et al. (2015, Table 1)."""


def fits(config: Config) -> list[Measurement]:
    """Times fits of all families to curves of LC-PFN's prior, and compares them.

    SciPy fits --peer-fits of the curves from one start; its time is scaled to all of
    them and to as many starts as ours. Quality is the share of fits whose sum of squared
    residuals is within 1 % of the best of 32 starts with 50 steps.
    """
    draw = jax.jit(pfn_prior.sample_prior, static_argnums=(1, 2))
    drawn = draw(jax.random.key(0), config.fitted_curves, EPOCHS).noisy
    curves, chosen = np.asarray(drawn), families.ORIGINAL
    observed = np.isfinite(curves)
    ours = lambda: jax.block_until_ready(FIT(chosen, curves, observed))  # noqa: E731
    peer = curves[: config.peer_fits].astype(float)
    title = f"all families to {len(curves):,} curves of {EPOCHS} epochs"
    with timing.one_core():
        times = timing.in_turn(
            {"jaxnas": ours, "scipy curve_fit": lambda: by_scipy(peer)}, config.repeats
        )
    factor = STARTS * len(curves) / len(peer)
    times["scipy curve_fit"] = times["scipy curve_fit"].scaled(factor)
    rows = timing.compare(title, "s", times)
    best = FIT(chosen, curves, observed, MANY, 50).square
    return rows + _quality(np.asarray(ours().square), np.asarray(best))


def by_scipy(curves: np.ndarray) -> list[float]:
    """Sums of squared residuals of fits to curves (n, EPOCHS), from one start each.

    The start is 0.5 in every parameter. A fit that does not converge has an infinite sum.
    """
    x = np.arange(1, EPOCHS + 1.0)
    squares = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for curve in curves:
            for function in LITERATURE.values():
                start = np.full(function.__code__.co_argcount - 1, 0.5)
                squares.append(math.inf)
                with contextlib.suppress(RuntimeError, ValueError):
                    found, _ = optimize.curve_fit(function, x, curve, start)
                    squares[-1] = float(((function(x, *found) - curve) ** 2).sum())
    return squares


def _quality(square: np.ndarray, best: np.ndarray) -> list[Measurement]:
    """Shares, in percent, of sums (k, b) within 1 % of the best (k, b) of many starts.

    Of all fits, and of the best family of each curve.
    """
    shares = {
        "of all fits": square <= 1.01 * np.minimum(square, best),
        "of the best family of each curve": square.min(0) <= 1.01 * best.min(0),
    }
    title, unknown = (
        f"sums of squares within 1 % of the best of {MANY} starts",
        math.nan,
    )
    rows = []
    for what, good in shares.items():
        values = [unknown, *3 * [100 * float(good.mean())], *3 * [unknown]]
        rows.append(Measurement(title, what, "%", *values))
    return rows
