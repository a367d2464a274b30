"""64-bit identities of architectures: two uint32 words (2,), the high word first.

A product of fewer than 2^64 vectors is numbered exactly, the first position slowest. In a
larger one an identity is a hash: the exclusive or of a random word for each choice at each
position (Zobrist, 1970), so two different vectors collide with probability 2^-64, and
any two of n with probability n^2 / 2^65 (3e-8 for a million architectures).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.types import Array

# arch (d,) -> (2,) uint32, equal if and only if the architectures are the same.
Identity = Callable[[Array], Array]
# A larger number of choices at one position would overflow the products of 16-bit limbs.
MAX_CHOICES = 2**16


def of_product(choices: tuple[int, ...]) -> Identity:
    """The identity of vectors (d,) of independent choices, by value."""
    return _exact(choices) if math.prod(choices) < 2**64 else _hashed(choices)


def _exact(choices: tuple[int, ...]) -> Identity:
    places = [math.prod(choices[i + 1 :]) for i in range(len(choices))]
    # (d, 4), least significant limb first.
    limbs = np.array([[p >> 16 * k & 0xFFFF for k in range(4)] for p in places])
    limbs = limbs.astype(np.uint32)

    def identity(arch: Array) -> Array:
        product = arch.astype(jnp.uint32)[:, None] * limbs
        low, high = (product & 0xFFFF).sum(0), (product >> 16).sum(0)
        # A sum has a carry of its own: the high halves belong to the next limb.
        total, carry = [], jnp.uint32(0)
        for k in range(4):
            here = low[k] + carry + (high[k - 1] if k else 0)
            total.append(here & 0xFFFF)
            carry = here >> 16
        words = [total[3] << 16 | total[2], total[1] << 16 | total[0]]
        return jnp.stack(words).astype(jnp.uint32)

    return identity


def _hashed(choices: tuple[int, ...]) -> Identity:
    starts = np.concatenate([[0], np.cumsum(choices)[:-1]]).astype(np.int32)
    # The same words for ever, whatever the version of NumPy.
    stream = hashlib.shake_256(b"jaxnas identity").digest(8 * sum(choices))
    words = np.frombuffer(stream, ">u4").astype(np.uint32).reshape(-1, 2)

    def identity(arch: Array) -> Array:
        chosen = jnp.asarray(words)[starts + arch]
        zero = np.uint32(0)
        return jax.lax.reduce(chosen, zero, jax.lax.bitwise_xor, (0,))

    return identity


def from_integer(number: Callable[[Array], Array]) -> Identity:
    """The identity that is a non-negative number () int32, such as a class."""

    def identity(arch: Array) -> Array:
        return jnp.stack([jnp.uint32(0), number(arch).astype(jnp.uint32)])

    return identity


def equal(a: Array, b: Array) -> Array:
    """Whether identities (..., 2) that broadcast are the same, (...) bool."""
    return (a == b).all(-1)


def member(wanted: Array, known: Array, valid: Array) -> Array:
    """Whether each of `wanted` (..., 2) is among the valid rows of `known` (n, 2)."""
    return (equal(wanted[..., None, :], known) & valid).any(-1)


def find(known: Array, wanted: Array) -> Array:
    """The index () int32 of `wanted` (2,) in `known` (n, 2), ascending; -1 if absent."""
    num = known.shape[0]

    def halve(_, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        word = known[middle]
        less = (word[0] < wanted[0]) | ((word[0] == wanted[0]) & (word[1] < wanted[1]))
        return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

    bounds = jnp.int32(0), jnp.int32(num)
    steps = max(1, num.bit_length())
    at = jax.lax.fori_loop(0, steps, halve, bounds)[0]
    at = jnp.minimum(at, num - 1)
    return jnp.where(equal(known[at], wanted), at, -1)


def to_uint64(identities: np.ndarray) -> np.ndarray:
    """Identities (n, 2) as sortable uint64 (n,), on the host."""
    high, low = np.asarray(identities, np.uint64).T
    return high << np.uint64(32) | low


def from_uint64(keys: np.ndarray) -> np.ndarray:
    """The inverse of `to_uint64`: (n,) uint64 as (n, 2) uint32."""
    keys = np.asarray(keys, np.uint64)
    halves = np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], -1)
    return halves.astype(np.uint32)
