"""The format and the identity of files of results.

The identity is every setting that the results depend on, as plain JSON values by name.
Readers refuse another format, and another identity by the names of the settings that differ
(`require_format`, `require_identity`). The records of a run are small JSON files of the
form `{"format": 1, ...}` (`write_record`, `read_record`).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnas.io import files

OTHER_VERSION = "finish the run with the version that began it, or give another folder"
DAMAGED = "it is damaged; give another folder, which leaves this one as it is"


def require_format(
    path: str | os.PathLike, existing: Any, supported: int | str, remedy: str
) -> None:
    """Checks the format or the version that a file states.

    Args:
      path: the file, for the message.
      existing: the format in the file; None if it has none.
      supported: the one format that is read and written.
      remedy: advice for the error message.

    Raises: `ValueError` unless both are equal.
    """
    if type(existing) is not type(supported) or existing != supported:
        raise ValueError(
            f"{path} has the format {existing!r:.80}, and this version of jaxnas reads "
            f"and writes format {supported!r}: {remedy}"
        )


def require_identity(
    path: str | os.PathLike,
    existing: Mapping[str, Any],
    requested: Mapping[str, Any],
    remedy: str,
) -> None:
    """Checks that results were made with the settings of this run.

    Args:
      path: the file or folder of the results, for the message.
      existing: the settings that they were made with, by name.
      requested: the settings of this run.
      remedy: advice for the error message.

    Raises: `ValueError` that lists all settings that differ, or says that another driver
      made the results: its settings have little in common with those of this one.
    """
    drivers = [settings.get("driver") for settings in (existing, requested)]
    if all(drivers) and drivers[0] != drivers[1]:
        raise ValueError(f"{path} was made by {drivers[0]}, not {drivers[1]}: {remedy}")
    if differing := differences(existing, requested):
        raise ValueError(f"{path} was made with other settings ({differing}): {remedy}")


def differences(existing: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
    """Lists the settings that differ, as text; empty if none does.

    Sha256 digests are cut to 8 digits, and named last.

    Args:
      existing: settings that results were made with, by name.
      requested: the settings of this run. Where both values are mappings, or lists of
        lists, the entries that differ are listed, as NAME.ENTRY.
    """
    texts = [
        f"{name} {_short(old)} there, {_short(new)} now"
        for name, old, new in _differing(existing, requested)
    ]
    return "; ".join(sorted(texts, key=lambda text: "…" in text))


def _short(value: Any) -> str:
    """A setting as text of at most 80 characters."""
    return re.sub("([0-9a-f]{8})[0-9a-f]{56}", r"\1…", repr(value))[:80]


def plain(value: Any) -> Any:
    """A value as it is read back from JSON: tuples are lists, and keys are strings."""
    return json.loads(json.dumps(value))


def _differing(
    existing: Mapping[str, Any], requested: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """The name and both values of each setting that differs, by name."""
    for name in sorted({**existing, **requested}):
        old, new = existing.get(name), requested.get(name)
        if old == new:
            continue
        if not prefix and _is_nested(old) and _is_nested(new):
            old, new = (_by_position(value) for value in (old, new))
            yield from _differing(old, new, f"{name}.")
        else:
            yield prefix + name, old, new


def _is_nested(value: Any) -> bool:
    """Whether a setting is a mapping, or a list of lists."""
    of_lists = isinstance(value, list) and all(isinstance(v, list) for v in value)
    return isinstance(value, Mapping) or of_lists


def _by_position(value: Any) -> Mapping[str, Any]:
    """The entries of a list by their positions, from 0; a mapping as it is."""
    return (
        {str(i): v for i, v in enumerate(value)} if isinstance(value, list) else value
    )


def write_record(path: Path, content: Mapping[str, Any], version: int) -> None:
    """Writes a JSON object and the version of its format, atomically.

    Args:
      path: the file; its folder must exist.
      content: JSON values by name.
      version: of the format.

    Raises: `ValueError` if the file cannot be written, and for values that JSON lacks,
      such as numbers that are not finite.
    """
    content = {"format": version, **content}
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot write {path}: it is not JSON: {error}") from error
    files.atomic_write(path, f"{text}\n".encode())


def without_nan(value: Any) -> Any:
    """A JSON value in which numbers that are not finite are None, which is null."""
    if isinstance(value, Mapping):
        return {name: without_nan(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(path: Path, version: int) -> dict[str, Any]:
    """Reads what `write_record` wrote, without the version.

    Raises: `ValueError` if the file is missing, damaged or of another version.
    """
    content = read_json(path)
    require_format(path, content.pop("format", None), version, OTHER_VERSION)
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises: `ValueError` if the file is missing, or is not such an object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path} ({error}): {DAMAGED}") from error
    if not isinstance(content, dict):
        raise ValueError(f"cannot read {path}, which holds no JSON object: {DAMAGED}")
    return content
