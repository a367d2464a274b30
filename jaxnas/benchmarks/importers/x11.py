"""Folders of surrogates that NAS-Bench-x11 and NAS-Bench-301 publish, read as data.

A folder has one `surrogate_model.model` for each member of the ensemble, with a
`model_config.json` beside it. Those of NAS-Bench-x11 (Yan et al., 2021; `svd_lgb`,
`svd_xgb`) predict learning curves, those of NAS-Bench-301 (Zela et al., 2022; `lgb_time`
and others) a number. The search space of a model follows from its numbers of
features and epochs, not from the name of the folder. Neither scikit-learn, SciPy,
LightGBM nor XGBoost is needed, and nothing in the files is run.

Refused are `svd_nn`, `vae_nn`, `vae_lgb` and `vae_xgb`: pickled torch modules that keep
their hidden layers in Python lists, which training and state dictionaries pass over, so
that these stay random, and their dropout and batch statistics act in predictions too.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from jaxnas.benchmarks.importers import x11_records
from jaxnas.benchmarks.importers.x11_records import ReleasedMember
from jaxnas.curves import released_model
from jaxnas.curves.forest import Forest
from jaxnas.io import joblib_files
from jaxnas.io.streams import named_errors, printable

MODEL, CONFIG, DATA = "surrogate_model.model", "model_config.json", "data_config.json"
_ADMITTED = {**x11_records.CLASSES, **joblib_files.ARRAYS}
_CURVES = {"svd_lgb": "lgb", "svd_xgb": "xgb"}
_NUMBERS = {"lgb": str, "lgb_time": str, "xgb": bytes, "xgb_time": bytes}
_MAX_JSON, _MAX_MEMBERS = 2**24, 1000


class Kind(NamedTuple):
    """Kind of a surrogate's predictions."""

    name: str  # of the benchmark: nb111, nb211, nb311, nlp11; nb301 for one number
    space: str  # the search space
    epochs: int  # e, length of a curve; 0 for one number
    unit: str  # of a value


# By number of features and of epochs.
KINDS = {
    (30, 108): Kind("nb111", "nasbench101", 108, "fraction"),
    (26, 108): Kind("nb111", "nasbench101", 108, "fraction"),
    (6, 200): Kind("nb211", "nasbench201", 200, "percent"),
    (56, 98): Kind("nb311", "darts", 98, "percent"),
    (188, 50): Kind("nlp11", "nlp", 50, "100 - nats"),
    (185, 50): Kind("nlp11", "nlp", 50, "100 - nats"),
}
_NUMBER_KINDS = {
    "time": Kind("nb301", "darts", 0, "seconds"),
    "accuracy": Kind("nb301", "darts", 0, "percent"),
}


class Released(NamedTuple):
    """A published surrogate as its files have it, each distinct member once.

    One of `members` and `regressors` is empty.
    """

    kind: Kind
    num_features: int  # d
    model: str  # as the release calls it: svd_lgb, lgb_time ...
    members: tuple[ReleasedMember, ...]  # of a model of curves
    regressors: tuple[Forest, ...]  # of a model of one number
    num_files: int  # members in the folder, equal ones included
    config: dict[str, Any]  # hyper-parameters
    sources: dict[str, str]  # SHA-256 of each file, by path in the folder


def read(folder: str | os.PathLike) -> Released:
    """Reads a folder of a published surrogate.

    Memory is bounded by four times its largest file and 200 MB, beside the result.

    Args:
      folder: has files `surrogate_model.model` at any depth.

    Raises: `ValueError`, of one line that names the file, if a file is missing, damaged
      or of another class, if its parts do not fit together or hold numbers that are not
      finite, for a model that cannot be imported, and for members that do not fit.
    """
    folder = Path(folder)
    paths = _model_files(folder)
    config = _json(paths[0].with_name(CONFIG))
    model = config.get("model")
    if model not in (*_CURVES, *_NUMBERS):
        reason = (
            "its networks are pickled torch modules, whose hidden layers the release "
            "does not train"
            if model in ("svd_nn", "vae_nn", "vae_lgb", "vae_xgb")
            else f"wanted one of {', '.join((*_CURVES, *_NUMBERS))}"
        )
        raise ValueError(
            f"{paths[0].with_name(CONFIG)}: cannot import the model "
            f"{printable(model)}: {reason}"
        )
    sources: dict[str, str] = {}
    if model in _CURVES:
        released = _read_curves(paths, model, config, sources)
    else:
        released = _read_numbers(paths, model, config, sources)
    for path in paths:
        for beside in (path.with_name(CONFIG), path.with_name(DATA)):
            if beside.is_file():
                sources[str(beside)] = hashlib.sha256(_bytes(beside)).hexdigest()
    relative = {str(Path(p).relative_to(folder)): h for p, h in sources.items()}
    return released._replace(sources=relative)


def surrogate(released: Released) -> released_model.ImportedSurrogate:
    """Packs the curve model of a release for evaluation, as arrays on the device.

    Noise is drawn from the kernel of the first member, as the published program does.

    Args:
      released: from `read`.

    Raises: `ValueError` for a model of one number.
    """
    if not released.members:
        raise ValueError(f"{released.model} predicts one number, not a curve")
    return released_model.pack_members(
        [m.chain for m in released.members],
        *(
            [getattr(m, name) for m in released.members]
            for name in ("mean", "scale", "singular", "right")
        ),
        kernel=released.members[0].kernel,
    )


def _model_files(folder: Path) -> list[Path]:
    """The members' files, in the order of their names.

    Raises: `ValueError` that names the folder if it is missing or has no such file.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise ValueError(f"{what}: {folder}")
    with named_errors(folder):
        paths = sorted(p for p in folder.rglob(f"*{MODEL}") if p.is_file())
    if not paths:
        raise ValueError(f"{folder}: no file {MODEL} in it or in its folders")
    if len(paths) > _MAX_MEMBERS:
        raise ValueError(f"{folder}: {len(paths)} files {MODEL}: not one ensemble")
    # ensemble_member_10 comes after ensemble_member_9.
    return sorted(paths, key=lambda p: (len(str(p)), str(p)))


def _bytes(path: Path) -> bytes:
    """The content of a file beside a model.

    Raises: `ValueError` that names it if it is missing or has more than 16 MiB.
    """
    with named_errors(path):
        if not path.is_file():
            raise ValueError("no such file: each model has one beside it")
        with open(path, "rb") as file:
            raw = file.read(_MAX_JSON + 1)
        if len(raw) > _MAX_JSON:
            raise ValueError(f"it has more than {_MAX_JSON} bytes")
        return raw


def _json(path: Path) -> dict[str, Any]:
    """A JSON object of a file; `ValueError` that names it for anything else."""
    raw = _bytes(path)
    try:
        content = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged JSON: {printable(error, 200)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted a JSON object, found {printable(content)}")
    return content


def _read_curves(
    paths: list[Path], model: str, config: dict[str, Any], sources: dict[str, str]
) -> Released:
    """Reads the members of a model of curves.

    Args:
      paths: of the members.
      model: the model's name in its configuration.
      config: the configuration.
      sources: gets the SHA-256 of each file.

    Raises: `ValueError` that names the file for one that is damaged, of another kind, or
      does not fit the first one.
    """
    members: dict[str, ReleasedMember] = {}
    for path in paths:
        value, sources[str(path)] = joblib_files.load(path, _ADMITTED)
        with named_errors(path):
            member = x11_records.member(value, members)
            _check_member(member, model, config)
            if members:
                _check_same(member, next(iter(members.values())))
        members.setdefault(member.digest, member)
    first = next(iter(members.values()))
    num_features, epochs = first.chain[0].num_features, first.right.shape[1]
    return Released(
        kind=KINDS[num_features, epochs],
        num_features=num_features,
        model=model,
        members=tuple(members.values()),
        regressors=(),
        num_files=len(paths),
        config=config,
        sources={},
    )


def _check_member(member: ReleasedMember, model: str, config: dict[str, Any]) -> None:
    """Checks that a member is of a known benchmark and as it was configured.

    Args:
      member: its parts already fit together.
      model: `svd_lgb` or `svd_xgb`.
      config: hyper-parameters, from the first member's file.

    Raises: `ValueError` that lists the known benchmarks, or names the hyper-parameter.
    """
    shape = member.chain[0].num_features, member.right.shape[1]
    if shape not in KINDS:
        kinds = "; ".join(f"{k.name}: {d}, {e}" for (d, e), k in KINDS.items())
        raise ValueError(
            f"{shape[0]} features and {shape[1]} epochs are of no known benchmark "
            f"({kinds})"
        )
    if member.library != _CURVES[model]:
        raise ValueError(
            f"its regressors are of {member.library}, and {CONFIG} says {model}"
        )
    k = config.get("param:num_components", len(member.chain))
    if k != len(member.chain):
        raise ValueError(
            f"it has {len(member.chain)} components, and {CONFIG} says {printable(k)}"
        )


def _check_same(member: ReleasedMember, first: ReleasedMember) -> None:
    """Compares the sizes of a member with those of the first one.

    Raises: `ValueError` if features, components, epochs or having a kernel differ, as
      curves of such members cannot be averaged.
    """
    shapes = [
        (m.chain[0].num_features, *m.right.shape, m.kernel is None)
        for m in (member, first)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "it does not fit the first member: features, components, epochs and kernel "
            f"are {shapes[0]}, not {shapes[1]}"
        )


def _read_numbers(
    paths: list[Path], model: str, config: dict[str, Any], sources: dict[str, str]
) -> Released:
    """Reads the members of a model of one number, each distinct one once.

    The arguments are those of `_read_curves`.

    Raises: `ValueError` that names the file for one that is damaged, of another library,
      or does not have the 56 features of DARTS.
    """
    forests: dict[str | bytes, Forest] = {}
    for path in paths:
        value, sources[str(path)] = joblib_files.load(path, _ADMITTED)
        with named_errors(path):
            handle = x11_records.booster(value, "the model")
            if type(handle) is not _NUMBERS[model]:
                raise ValueError(f"{CONFIG} says {model}, and it is of another library")
            if handle not in forests:
                forests[handle] = x11_records.forest(handle, "the model")
            num_features = forests[handle].num_features
            if num_features != 56:
                raise ValueError(f"it has {num_features} features, where DARTS has 56")
    return Released(
        kind=_NUMBER_KINDS["time" if model.endswith("time") else "accuracy"],
        num_features=56,
        model=model,
        members=(),
        regressors=tuple(forests.values()),
        num_files=len(paths),
        config=config,
        sources={},
    )
