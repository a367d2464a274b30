"""Sets of learning curves that surrogates are fitted to and tested on.

    data = SETS["fashion-curves"].open()

`fashion-curves` is embedded in the library. The others are published curves, files of the
reference data that JAXNAS_SHARED names.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np

from experiments.curves import metaqnn
from jaxnas.batching import in_chunks
from jaxnas.benchmarks import named, sources
from jaxnas.curves import splits
from jaxnas.curves.surrogate import Info
from jaxnas.io import npz
from jaxnas.spaces import (
    encodings,
    nasbench201_classes,
    nasbench201_paths,
    nlp,
    nlp_features,
    nlp_formats,
    nlp_paths,
)
from jaxnas.spaces.base import identify

# Nodes of the largest recipe of the NLP curves, inputs included.
_NLP_NODES = 19


class Encoded(NamedTuple):
    """Architectures in the encoding of our default and in that of the release."""

    own: np.ndarray  # (n, d)
    release: np.ndarray  # (n, d')

    def rows(self, chosen: np.ndarray) -> Encoded:
        """The architectures of the chosen rows."""
        return Encoded(self.own[chosen], self.release[chosen])


@dataclass(frozen=True)
class CurveSet:
    """Learning curves of n trainings, and the features of their architectures.

    Attributes:
      features: of the n architectures.
      curves: (n, E), more is better.
      groups: (n,) rows of one number are trainings of one architecture.
      info: metadata of the curves.
      truth: (n, E) curves that predictions are compared with, if not those that were
        fitted: another seed's.
      seeds: (n, r, E) curves of r trainings of the row's architecture, the one in
        `curves` included; NaN for rows with fewer. None: no architecture has several.
      further: real curves to test on besides held-out rows, by name: their features
        and (m, E) curves.
    """

    features: Encoded
    curves: np.ndarray
    groups: np.ndarray
    info: Info
    truth: np.ndarray | None = None
    seeds: np.ndarray | None = None
    further: Mapping[str, tuple[Encoded, np.ndarray]] = field(default_factory=dict)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all arrays, to recognise results of other data."""
        arrays = [*self.features, self.curves, self.groups]
        arrays += [x for x in (self.truth, self.seeds) if x is not None]
        arrays += [x for pair in self.further.values() for x in (*pair[0], pair[1])]
        total = hashlib.sha256()
        for array in arrays:
            total.update(str((array.shape, array.dtype)).encode())
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()


class Source(NamedTuple):
    """How a set is opened and split."""

    open: Callable[[], CurveSet]
    train: float  # share of the architectures that surrogates are fitted on
    usual: bool = True  # whether it belongs to the report unless sets are named


def limited(data: CurveSet, num: int, key: jax.Array) -> CurveSet:
    """A random subset of `num` architectures, with all trainings of each."""
    total = len(np.unique(data.groups))
    if num >= total:
        return data
    rows, _ = splits.split(key, data.groups, (num / total, 1 - num / total))
    pick = lambda array: None if array is None else array[rows]  # noqa: E731
    names = ("curves", "groups", "truth", "seeds")
    arrays = {name: pick(getattr(data, name)) for name in names}
    return dataclasses.replace(data, features=data.features.rows(rows), **arrays)


def nb201() -> CurveSet:
    """Curves of all cells of NAS-Bench-201 by a published surrogate; 200 real ones.

    The stand-in is the XGBoost model of JAHS-Bench-201 (Bansal et al., 2022) on CIFAR-10;
    its few values below 0 are taken for 0. The real curves, means over seeds, are of
    cells that may also be in the part that is fitted on, with the stand-in's curve.
    """
    names = ("valid_acc", "uid", "ops_naslib")
    arrays = read_arrays("nb201_jahs_surrogate_curves.npz", *names)
    operations = arrays["ops_naslib"].astype(np.int32)
    # The published model takes one-hot operations, those of dead edges included.
    features = _cells(in_chunks(encodings.from_naslib201, operations), False)
    real = read_arrays("nb201_curves_cifar10valid_200archs.npz", "uid", "val_acc")
    curves = arrays["valid_acc"].astype(float).clip(0, 100)
    place = np.searchsorted(arrays["uid"], real["uid"])
    return CurveSet(
        features,
        curves,
        arrays["uid"],
        Info("nasbench201", "one-hot", source="JAHS-Bench-201, CIFAR-10"),
        further={"real": (features.rows(place), real["val_acc"].astype(float))},
    )


def finals(column: str, by_class: bool) -> CurveSet:
    """Real validation accuracies of all cells of NAS-Bench-201 after 200 epochs.

    The first seed of each cell is fitted and the second one is the truth. Where the split
    is by cell, most cells that are held out compute the function of one that is not.

    Args:
      column: cifar10valid, cifar100 or ImageNet16-120.
      by_class: whether cells that compute one function are in one part.
    """
    name = f"{column}_val_seeds"
    seeds = read_arrays("nb201_val_seeds.npz", name)[name].astype(float)
    cells = read_arrays("nb201_accuracy.npz", "ops", "iso_id")
    # Those that were run, in their order: some cells have two seeds of the three.
    order = np.argsort(np.isnan(seeds), axis=1, kind="stable")
    first, second = np.take_along_axis(seeds, order, 1)[:, :2, None].transpose(1, 0, 2)
    return CurveSet(
        _cells(cells["ops"], True),
        first,
        cells["iso_id"] if by_class else np.arange(len(first)),
        Info("nasbench201", "paths", epochs=(200,), source=f"NAS-Bench-201, {column}"),
        truth=second,
        seeds=np.stack([first, second], 1),
    )


def fashion() -> CurveSet:
    """Validation curves of the embedded table of NAS-Bench-201 cells, first seeds.

    One cell of each function: the table gives the cells of one function the same curves,
    so that a held-out cell may be a copy of one that was fitted.
    """
    table = named.open_table("fashion-curves")
    classes = in_chunks(nasbench201_classes.function_class, table.arch)
    functions, first = np.unique(classes, return_index=True)
    seeds = table.columns["curve/fashion-mnist/valid/12"][first].astype(float)
    return CurveSet(
        _cells(table.arch[first], True),
        seeds[:, 0],
        functions,
        Info("nasbench201", "paths", source=table.name),
        seeds=seeds,
    )


def _cells(archs: np.ndarray, of_function: bool) -> Encoded:
    """Features of cells (n, 6) of NAS-Bench-201; the release's is the ordinal vector.

    Args:
      archs: the cells.
      of_function: whether cells of one function have the same features, as trainings of
        them have the same expected curve; else the operations of all edges, one-hot.
    """
    own = (
        nasbench201_paths.function_features if of_function else encodings.nb201_one_hot
    )
    archs = np.asarray(archs, np.int32)
    return Encoded(*(in_chunks(f, archs) for f in (own, encodings.nb211_vector)))


def recurrent(with_start: bool) -> CurveSet:
    """Curves of NAS-Bench-NLP on WikiText-2, as 100 minus the validation loss in nats.

    The four trainings that diverged are left out. Recipes of one architecture, which may
    differ in the names and the order of their nodes, are further seeds: 341 trainings of
    263 architectures.

    Args:
      with_start: whether the first three epochs are features too.
    """
    arrays = read_arrays("nasbench_nlp_wikitext2_345.npz", "recipe", "val_loss")
    curves = 100 - arrays["val_loss"].astype(float)
    complete = np.isfinite(curves).all(1)
    curves, recipes = curves[complete], arrays["recipe"][complete]
    archs = np.stack([nlp_formats.from_string(str(r), _NLP_NODES) for r in recipes])
    groups = identify(nlp.space(_NLP_NODES), archs)
    own, release = (
        np.asarray(in_chunks(f, archs), float)
        for f in (nlp_paths.path_summary, nlp_features.surrogate_vector)
    )
    if with_start:
        own = np.concatenate([own, _beginning(curves[:, :3])], 1)
        release = np.concatenate([release, curves[:, :3]], 1)
    name = "paths" + (", three epochs" if with_start else "")
    info = Info("nlp19", name, "100 - loss", "nats", source="NAS-Bench-NLP, WikiText-2")
    return CurveSet(
        Encoded(own, release), curves, groups, info, seeds=_pairs(groups, curves)
    )


def _beginning(start: np.ndarray) -> np.ndarray:
    """The first three values (n, 3) of curves, their differences, and where they lead.

    Returns: (n, 8): trees cannot add, so that the lines through the last two values are
      followed for one, two and three epochs more.
    """
    steps = np.diff(start, axis=1)
    return np.concatenate([start, steps, start[:, 2:] + steps[:, 1:] * [1, 2, 3]], 1)


def _pairs(groups: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Two trainings (n, 2, E) of each row's architecture, NaN where there is one."""
    seeds = np.full((len(curves), 2, curves.shape[1]), np.nan)
    for row, group in enumerate(groups):
        others = np.flatnonzero(groups == group)
        if len(others) > 1:
            seeds[row] = curves[row], curves[others[others != row][0]]
    return seeds


def convolutional() -> CurveSet:
    """Curves of 1,000 networks of MetaQNN on CIFAR-10 (Baker et al., 2018), in percent."""
    names = (f"metaqnn_cifar10__{name}" for name in ("net", "curve"))
    texts, curves = read_arrays("curves_baker.npz", *names).values()
    networks = [metaqnn.parse(str(text)) for text in texts]
    places = max(map(len, networks))
    layers = np.stack([metaqnn.ordinal(network, places) for network in networks])
    summaries = np.stack([metaqnn.summary(network) for network in networks])
    _, groups = np.unique(texts, return_inverse=True)
    return CurveSet(
        Encoded(np.concatenate([summaries, layers], 1), layers),
        100 * curves.astype(float),
        groups,
        Info("metaqnn", "summary, layers", source="Baker et al. (2018), CIFAR-10"),
    )


SETS: dict[str, Source] = {
    "nb201": Source(nb201, 0.9),
    "nlp": Source(functools.partial(recurrent, False), 0.8),
    "nlp-start": Source(functools.partial(recurrent, True), 0.8),
    "fashion-curves": Source(fashion, 0.8),
    "metaqnn": Source(convolutional, 0.8),
}
for _name, _column in (
    ("cifar10", "cifar10valid"),
    ("cifar100", "cifar100"),
    ("imagenet", "ImageNet16-120"),
):
    for _end, _by in (("", False), ("-class", True)):
        _open = functools.partial(finals, _column, _by)
        SETS[f"final-{_name}{_end}"] = Source(_open, 0.9, usual=False)
"""The sets by name; `nlp-start` has the first three epochs as features."""

_FILES = {
    "nb201": (
        "nb201_jahs_surrogate_curves.npz",
        "nb201_curves_cifar10valid_200archs.npz",
    ),
    "nlp": ("nasbench_nlp_wikitext2_345.npz",),
    "nlp-start": ("nasbench_nlp_wikitext2_345.npz",),
    "metaqnn": ("curves_baker.npz",),
}


def available(name: str) -> bool:
    """Whether the files of a set of `SETS` exist."""
    folder = sources.shared_folder() / "data"
    return all((folder / file).is_file() for file in _FILES.get(name, ()))


def read_arrays(name: str, *arrays: str) -> dict[str, np.ndarray]:
    """Reads arrays of a file of the reference data."""
    return npz.read_npz(sources.reference_file(name), arrays)
