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
    """Makes the identity of vectors of independent choices: different vectors differ.

    Args:
      choices: number of choices at each of the d positions, up to `MAX_CHOICES`.

    Returns: an exact numbering for fewer than 2^64 vectors, else a hash.
    """
    return _exact(choices) if math.prod(choices) < 2**64 else _hashed(choices)


def _exact(choices: tuple[int, ...]) -> Identity:
    """The rank of a vector, in four 16-bit limbs: JAX has no 64-bit integers by default."""
    weights = [math.prod(choices[i + 1 :]) for i in range(len(choices))]
    # (d, 4), least significant limb first.
    limbs = np.array([[p >> 16 * k & 0xFFFF for k in range(4)] for p in weights])
    limbs = limbs.astype(np.uint32)

    def identity(arch: Array) -> Array:
        product = arch.astype(jnp.uint32)[:, None] * limbs
        low, high = (product & 0xFFFF).sum(0), (product >> 16).sum(0)
        # The high halves of the products belong to the next limb.
        total, carry = [], jnp.uint32(0)
        for k in range(4):
            limb = low[k] + carry + (high[k - 1] if k else 0)
            total.append(limb & 0xFFFF)
            carry = limb >> 16
        words = [total[3] << 16 | total[2], total[1] << 16 | total[0]]
        return jnp.stack(words).astype(jnp.uint32)

    return identity


def _hashed(choices: tuple[int, ...]) -> Identity:
    """A Zobrist hash, with random words that are fixed for ever."""
    starts = np.concatenate([[0], np.cumsum(choices)[:-1]]).astype(np.int32)
    # From a hash function: generators of NumPy may change between versions.
    stream = hashlib.shake_256(b"jaxnas identity").digest(8 * sum(choices))
    words = np.frombuffer(stream, ">u4").astype(np.uint32).reshape(-1, 2)

    def identity(arch: Array) -> Array:
        chosen = jnp.asarray(words)[starts + arch]
        zero = np.uint32(0)
        return jax.lax.reduce(chosen, zero, jax.lax.bitwise_xor, (0,))

    return identity


def from_integer(number: Callable[[Array], Array]) -> Identity:
    """Makes an identity of an integer that tells architectures apart.

    Args:
      number: arch (d,) -> () int32, non-negative: a canonical id, or the number of an
        equivalence class.
    """

    def identity(arch: Array) -> Array:
        return jnp.stack([jnp.uint32(0), number(arch).astype(jnp.uint32)])

    return identity


def equal(a: Array, b: Array) -> Array:
    """Compares identities (..., 2), which broadcast: (...) bool."""
    return (a == b).all(-1)


def member(ids: Array, listed: Array, valid: Array) -> Array:
    """Whether identities are in a list (linear scan).

    Args:
      ids: (..., 2) identities.
      listed: (n, 2) identities in any order.
      valid: (n,) bool, which of them count: the rest is padding.

    Returns: (...) bool.
    """
    return (equal(ids[..., None, :], listed) & valid).any(-1)


def find(listed: Array, one: Array) -> Array:
    """Finds an identity in an ascending list, by bisection.

    Args:
      listed: (n, 2) identities, ascending, n >= 1.
      one: (2,) identity.

    Returns: () int32, the index in `listed`; -1 if it is absent.
    """
    num = listed.shape[0]

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        word = listed[middle]
        less = (word[0] < one[0]) | ((word[0] == one[0]) & (word[1] < one[1]))
        return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

    bounds = jnp.int32(0), jnp.int32(num)
    steps = max(1, num.bit_length())
    index = jax.lax.fori_loop(0, steps, halve, bounds)[0]
    index = jnp.minimum(index, num - 1)
    return jnp.where(equal(listed[index], one), index, -1)


def to_uint64(identities: np.ndarray) -> np.ndarray:
    """Converts identities (n, 2) to sortable uint64 (n,), on the host."""
    high, low = np.asarray(identities, np.uint64).T
    return high << np.uint64(32) | low


def from_uint64(keys: np.ndarray) -> np.ndarray:
    """Inverts `to_uint64`: from (n,) uint64 to (n, 2) uint32, on the host."""
    keys = np.asarray(keys, np.uint64)
    halves = np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], -1)
    return halves.astype(np.uint32)
