"""A DARTS architecture as text: a genotype or a compact form, without executing it.

`READERS` has all notations by the names that published programs give them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnas.spaces.darts_formats import (
    CONFIG_CELLS,
    Genotype,
    from_bananas,
    from_compact,
    from_config,
    from_genotype,
    to_genotype,
)
from jaxnas.types import Array

_LONGEST_TEXT = 4096
_TEXT = re.compile(r"[\w\s()\[\],=.'\"]*")


def to_string(arch: Array | np.ndarray) -> str:
    """The genotype as text, `Genotype(normal=[('sep_conv_3x3', 0), ...], ...)`.

    Raises: `ValueError` that names the node for what is not a DARTS architecture.
    """
    return repr(to_genotype(arch))


def _parse(text: str) -> ast.expr:
    """The expression that a notation is; nothing of it is executed."""
    try:
        if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
            raise ValueError
        if not _TEXT.fullmatch(text):
            raise ValueError
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(
            f"not a DARTS architecture: {text!r:.100}; wanted 'Genotype(normal="
            "[(operation, input), ...], ..., reduce=[...], ...)' or a compact list"
        ) from None


def from_string(text: str) -> np.ndarray:
    """The architecture (32,) int32 of a text.

    Args:
      text: a genotype as `to_string` writes it, whatever it concatenates, with pairs in
        one list or by node; or a compact form as a list of lists.

    Raises: `ValueError` for other texts; it names the node where a cell is wrong.
    """
    body = _parse(text)
    fields = {k.arg: k.value for k in getattr(body, "keywords", ())}
    if isinstance(body, ast.Call) and not {"normal", "reduce"} <= fields.keys():
        raise ValueError(f"a genotype names normal and reduce, not {text!r:.100}")
    try:
        if not isinstance(body, ast.Call):
            compact = ast.literal_eval(body)
        else:
            normal, reduce = (ast.literal_eval(fields[f]) for f in CONFIG_CELLS)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(
            f"not a DARTS architecture: {text!r:.100}; wanted names and numbers"
        ) from None
    if not isinstance(body, ast.Call):
        return from_compact(compact)
    return from_genotype(Genotype(normal, (), reduce, ()))


# The notations by the names that NAS-Bench-301 and NAS-Bench-x11 give them.
READERS: dict[str, Callable[[Any], np.ndarray]] = {
    "genotype": from_genotype,
    "compact": from_compact,
    "configspace": from_config,
    "BANANAS": from_bananas,
    "arch_str": from_string,
}


def read(given: Any, representation: str) -> np.ndarray:
    """The architecture (32,) int32 of any notation.

    Args:
      given: an architecture in that notation.
      representation: a key of `READERS`: genotype, compact, configspace, BANANAS or
        arch_str.

    Raises: `ValueError` for another notation; it names the node where a cell is wrong.
    """
    if representation not in READERS:
        raise ValueError(
            f"representation is one of {', '.join(READERS)}, not {representation!r}"
        )
    return READERS[representation](given)
