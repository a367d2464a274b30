"""Eleven parametric families of learning curves (Domhan et al., 2015, Table 1).

Every family is written as

    f(x) = c + s shape(z, x),   x = 1, 2, ...

with an intercept c, which some lack, a factor s, which is 1 in one of them, and at most
two coordinates z of the shape, most of them logarithms. For given z, c and s solve a
linear least-squares problem, so that a fit searches at most two dimensions where the
literature has up to four parameters, to which `Family.theta` converts. Shapes beside an
intercept are 0 at epoch 1, so that single precision does not lose those that are nearly
flat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxnas.types import Array

# (z0, z1), each with the shape of a batch.
Coordinates = tuple[Array, Array]
# theta(c, s, z): the parameters of the literature.
ToTheta = Callable[[Array, Array, Coordinates], tuple[Array, ...]]


# Epoch at which the value of a power is a coordinate.
_MIDDLE = 6.0


class Family(NamedTuple):
    """A family of curves f(x) = c + s shape(z, x) of values between 0 and 1."""

    name: str
    names: tuple[str, ...]  # of the p parameters, in the order of Yan et al.'s programs
    shape: Callable[[Coordinates, Array], Array]  # elementwise
    box: tuple[tuple[float, float], ...]  # bounds of the coordinates, at most two
    theta: ToTheta
    sign: int = 0  # of s: 1 or -1; 0: any
    intercept: bool = True  # False: c = 0
    factor: bool = True  # False: s = 1

    @property
    def num_params(self) -> int:
        """Number p of parameters."""
        return len(self.names)


def _exp(x: Array) -> Array:
    """Exponential function of x, clipped to +-80, where single precision is finite."""
    return jnp.exp(jnp.clip(x, -80.0, 80.0))


def _log(x: Array) -> Array:
    """Logarithm of x, finite for x <= 0."""
    return jnp.log(jnp.maximum(x, 1e-30))


def _rate(z: Coordinates, x: Array) -> Array:
    """w(x) = e^z0 (x / 6)^delta, delta = e^z1, of which five shapes are functions.

    z0 is the logarithm of w at an epoch inside of most curves, where it is nearly
    uncorrelated with the exponent; at epoch 1 it is not.
    """
    return _exp(z[0] + _exp(z[1]) * jnp.log(x / _MIDDLE))


def _coefficient(z: Coordinates) -> Array:
    """The coefficient k of w(x) = k x^delta, which is w(1)."""
    return _exp(z[0] - _exp(z[1]) * jnp.log(_MIDDLE))


def _inner(z: Coordinates) -> Array:
    """The factor kappa of w(x) = (kappa x)^delta."""
    return _exp(z[0] * _exp(-z[1])) / _MIDDLE


def _logistic(z: Coordinates, x: Array) -> Array:
    """Shape of logpower and hill3: 1 / (1 + 1 / w)."""
    return 1 / (1 + 1 / _rate(z, x))


def _stretched(z: Coordinates, x: Array) -> Array:
    """Shape of exp4, janoschek and weibull: exp(w(1) - w) - 1, 0 at epoch 1."""
    return jnp.expm1(_coefficient(z) - _rate(z, x))


def _ends(c: Array, s: Array, z: Coordinates) -> tuple[Array, Array]:
    """The asymptote alpha, and beta, of alpha - (alpha - beta) exp(-w)."""
    return c - s, c - s + s * _exp(_coefficient(z))


def _mmf(z: Coordinates, x: Array) -> Array:
    """Shape of mmf: (1 + w(1)) / (1 + w) - 1, 0 at epoch 1."""
    return (_coefficient(z) - _rate(z, x)) / (1 + _rate(z, x))


def _pow4(z: Coordinates, x: Array) -> Array:
    """Shape of pow4: ((x + r) / (1 + r))^-alpha - 1, r = e^z0 and alpha = e^z1."""
    return jnp.expm1(-_exp(z[1]) * jnp.log1p((x - 1) / (1 + _exp(z[0]))))


def _pow4_theta(c: Array, s: Array, z: Coordinates) -> tuple[Array, ...]:
    """Parameters of c - (a x + b)^-alpha: a = (-s)^(-1 / alpha) / (1 + r), b = a r."""
    r, alpha = _exp(z[0]), _exp(z[1])
    a = _exp(-_log(jnp.abs(s)) / alpha) / (1 + r)
    return a, a * r, c - s, alpha


# Of the logarithms of w(6) and delta; below, powers are nearly logarithms.
_LOGISTIC_BOX = ((-12.0, 6.0), (-4.0, 2.0))
_STRETCHED_BOX = ((-9.0, 4.0), (-2.3, 2.0))

VAPOR_PRESSURE = Family(
    "vapor_pressure",
    ("a", "b", "c"),
    lambda z, x: _exp(z[0] / x + z[1] * jnp.log(x)),
    ((-8.0, 4.0), (-1.0, 2.0)),
    lambda c, s, z: (_log(s), *z),
    sign=1,
    intercept=False,
)
"""Vapor pressure: exp(a + b / x + c ln x)."""
VAPOR_PRESSURE_RELEASED = Family(
    "vapor_pressure",
    ("a", "b", "c"),
    lambda z, x: jnp.cos(z[0]) / x + jnp.sin(z[0]) * jnp.log(x),
    ((-1.6, 1.6),),
    lambda c, s, z: (c, s * jnp.cos(z[0]), s * jnp.sin(z[0])),
)
"""As the programs of Yan et al. (2021) have it: a + b / x + c ln x.

A multiple of it is cos(z) / x + sin(z) ln x.
"""
POW3 = Family(
    "pow3",
    ("a", "c", "alpha"),
    lambda z, x: jnp.expm1(-_exp(z[0]) * jnp.log(x)),
    ((-6.0, 3.0),),
    lambda c, s, z: (-s, c - s, _exp(z[0])),
    sign=-1,
)
"""A power with an asymptote: c - a x^-alpha."""
LOG_LOG_LINEAR = Family(
    "logloglinear",
    ("a", "b"),
    lambda z, x: jnp.log1p(_exp(z[0]) * jnp.log(x)),
    ((-9.0, 6.0),),
    lambda c, s, z: (_exp(c + z[0]), _exp(c)),
    factor=False,
)
"""Log log linear: ln(a ln x + b) = ln b + ln(1 + a / b ln x)."""
LOG_POWER = Family(
    "logpower",
    ("a", "b", "c"),
    _logistic,
    _LOGISTIC_BOX,
    lambda c, s, z: (s, -_log(_inner(z)), -_exp(z[1])),
    intercept=False,
)
"""Log power: a / (1 + (x / e^b)^c) with c = -delta."""
POW4 = Family(
    "pow4",
    ("a", "b", "c", "alpha"),
    _pow4,
    ((-7.0, 7.0), (-5.0, 5.0)),
    _pow4_theta,
    sign=-1,
)
"""A shifted power with an asymptote: c - (a x + b)^-alpha.

A multiple of it is ((1 + r) / (x + r))^alpha with r = b / a.
"""
MMF = Family(
    "mmf",
    ("alpha", "beta", "delta", "kappa"),
    _mmf,
    ((-12.0, 6.0), (-2.3, 2.0)),
    lambda c, s, z: (c - s, c + s * _coefficient(z), _exp(z[1]), _inner(z)),
)
"""Morgan-Mercer-Flodin: alpha - (alpha - beta) / (1 + (kappa x)^delta)."""
EXP4 = Family(
    "exp4",
    ("a", "b", "c", "alpha"),
    _stretched,
    _STRETCHED_BOX,
    lambda c, s, z: (_coefficient(z), _log(-s) + _coefficient(z), c - s, _exp(z[1])),
    sign=-1,
)
"""A stretched exponential: c - exp(-a x^alpha + b)."""
JANOSCHEK = Family(
    "janoschek",
    ("alpha", "beta", "kappa", "delta"),
    _stretched,
    _STRETCHED_BOX,
    lambda c, s, z: (*_ends(c, s, z), _coefficient(z), _exp(z[1])),
)
"""Janoschek: alpha - (alpha - beta) exp(-kappa x^delta)."""
WEIBULL = Family(
    "weibull",
    ("alpha", "beta", "kappa", "delta"),
    _stretched,
    _STRETCHED_BOX,
    lambda c, s, z: (*_ends(c, s, z), _inner(z), _exp(z[1])),
)
"""Weibull: alpha - (alpha - beta) exp(-(kappa x)^delta)."""
ILOG2 = Family(
    "ilog2",
    ("a", "c"),
    lambda z, x: 1 / jnp.log(x + 1),
    (),
    lambda c, s, z: (-s, c),
    sign=-1,
)
"""An inverse logarithm: c - a / ln(x + 1)."""
HILL3 = Family(
    "hill3",
    ("ymax", "eta", "kappa"),
    _logistic,
    _LOGISTIC_BOX,
    lambda c, s, z: (s, _exp(z[1]), 1 / _inner(z)),
    sign=1,
    intercept=False,
)
"""Hill's equation: ymax x^eta / (kappa^eta + x^eta)."""
HILL3_RELEASED = HILL3._replace(
    theta=lambda c, s, z: (s, _exp(z[1]), _exp(-z[1]) / _coefficient(z))
)
"""As the programs of Yan et al. (2021) have it: ymax x^eta / (kappa eta + x^eta)."""
_COMMON = (POW3, LOG_LOG_LINEAR, LOG_POWER, POW4, MMF, EXP4, JANOSCHEK, WEIBULL, ILOG2)

ORIGINAL = (VAPOR_PRESSURE, *_COMMON, HILL3)
"""The eleven families as Domhan et al. (2015, Table 1) define them."""
REFERENCE = (VAPOR_PRESSURE_RELEASED, *_COMMON, HILL3_RELEASED)
"""The families as the programs of Yan et al. (2021) have them: vapor pressure without the
exponential function, and kappa times eta instead of kappa^eta in Hill's equation."""
