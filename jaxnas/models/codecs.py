"""The search spaces that MetaD2A's models are for, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxnas.models import mobilenetv3, nasbench201
from jaxnas.models.graphs import Codec

CODECS = {codec.space.name: codec for codec in (nasbench201.CODEC, mobilenetv3.CODEC)}


def codec_of(manifest: Mapping[str, Any]) -> Codec:
    """Looks up the codec of the space of a meta-database.

    Args:
      manifest: of the database; `space` is the name of the space, by default
        NAS-Bench-201.

    Raises: `ValueError` for a space without a codec.
    """
    name = manifest.get("space", nasbench201.CODEC.space.name)
    if name not in CODECS:
        raise ValueError(
            f"the meta-database is of the space {name!r}; models exist for "
            f"{', '.join(CODECS)}"
        )
    return CODECS[name]
