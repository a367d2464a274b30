"""Learning curves in the raw formats of NAS-Bench-x11's training program.

* NAS-Bench-201: `nb201_cifar10_full_training.pickle`, a dict by cell.
* NAS-Bench-NLP: `nb_nlp.pickle`, a dict by compact cell.
* NAS-Bench-301: folders of `results_*.json`, one folder for each optimiser.
* NAS-Bench-111: folders `HASH/repeat_1/results.json`, and the file of NAS-Bench-101,
  which maps hashes to cells.

Pickles are read as data (see `jaxnas.io.pickles`). The importers were written from the
program that reads these files and tested on files of the same form, not on the published
ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas.benchmarks.importers import curve_log_files as files
from jaxnas.benchmarks.importers.nb101_hashes import HashedCells
from jaxnas.io.streams import named_errors, printable
from jaxnas.spaces import darts_formats, nasbench201, nlp_formats

# Bytes of a list's entry and of a dict's, as the pickle reader counts them.
_ITEM, _ENTRY = 40, 128
NB201_EPOCHS, NLP_EPOCHS, NB301_EPOCHS, NB111_EPOCHS = 200, 50, 98, 108
_BUDGETS = (4, 12, 36, 108)


class CurveLogs(NamedTuple):
    """Learning curves of n trained architectures."""

    space: str
    # (n, d) int32; of DARTS in canonical form, of NLP as the file has it
    arch: np.ndarray
    curves: np.ndarray  # (n, e) float64, the value after 1 to e epochs
    unit: str  # of the curves
    further: np.ndarray  # (n, a) float64, measured features that the surrogate takes
    stratum: np.ndarray  # (n,) text, the search that proposed it; "" if unknown
    seconds: np.ndarray  # (n,) of the whole training; NaN if unknown
    skipped: dict[str, int]  # how many trainings were left out, by reason
    sha256: str  # of the file, or of the names and the SHA-256s of all files


class _Training(NamedTuple):
    """One training, as a file has it."""

    arch: np.ndarray  # (d,)
    curve: np.ndarray  # (e,)
    further: np.ndarray  # (a,)
    stratum: str
    seconds: float


def read_nb201(path: str | os.PathLike, *, dataset: str = "cifar10-valid") -> CurveLogs:
    """Reads the curves of NAS-Bench-201 in percent of the validation images.

    Args:
      path: the pickle: cell -> dataset -> `eval_acc1es` (200) and `cost_info`.
      dataset: the images, as the file calls them.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged, or
      of another form; it names the cell.
    """

    def trainings(content: dict) -> Iterator[_Training]:
        for text, entry in content.items():
            with named_errors(f"the cell {printable(text)}"):
                arch, of_dataset = nasbench201.from_string(text), entry[dataset]
                curve = files.curve_of(of_dataset["eval_acc1es"], NB201_EPOCHS)
                epoch = of_dataset.get("cost_info", {}).get("train_time", np.nan)
                yield _Training(arch, curve, _none(), "", epoch * NB201_EPOCHS)

    content, digest = files.pickled_dict(path, ("eval_acc1es", without_other_lists))
    with named_errors(path):
        return _logs("nasbench201", "percent", trainings(content), digest)


def read_nlp(path: str | os.PathLike) -> CurveLogs:
    """Reads the curves of NAS-Bench-NLP as 100 - validation loss in nats.

    Cells of more than 12 nodes, which the space does not have, and trainings that diverged
    are skipped. The first three epochs are the further features.

    Args:
      path: the pickle: compact cell -> `val_losses` (50), `wall_times` and others.

    Raises: `ValueError`, of one line that names the file, if it is missing, damaged, or
      of another form; it names the cell.
    """
    skipped = {"more than 12 nodes": 0, "diverged": 0}

    def trainings(content: dict) -> Iterator[_Training]:
        for number, (compact, entry) in enumerate(content.items()):
            with named_errors(f"cell {number}"):
                if len(compact[1]) > nlp_formats.MAX_NODES:
                    skipped["more than 12 nodes"] += 1
                    continue
                loss = np.array(entry["val_losses"], np.float64)
                if loss.shape == (NLP_EPOCHS,) and not np.isfinite(loss).all():
                    skipped["diverged"] += 1
                    continue
                curve = files.curve_of(100 - loss, NLP_EPOCHS)
                arch = nlp_formats.from_compact(compact)
                seconds = float(np.sum(entry.get("wall_times", np.nan)))
                yield _Training(arch, curve, curve[:3], "", seconds)

    content, digest = files.pickled_dict(path, None)
    with named_errors(path):
        logs = _logs("nlp", "100 - nats", trainings(content), digest)
        return logs._replace(skipped=skipped)


def read_nb301(folder: str | os.PathLike) -> CurveLogs:
    """Reads the curves of NAS-Bench-301 in percent of the validation images.

    A curve of fewer than 98 epochs is continued by its last value, as the surrogates of
    the benchmark are trained. Each folder of files is a stratum.

    Args:
      folder: has files `results_*.json`, at any depth.

    Raises: `ValueError`, of one line that names the file, if one is damaged or of another
      form, or there is none.
    """
    folder, hashed = Path(folder), hashlib.sha256()

    def trainings() -> Iterator[_Training]:
        for path in files.find_files(folder, "results_*.json"):
            content = files.json_object(path, folder, hashed)
            with named_errors(path):
                config = content["optimized_hyperparamater_config"]  # sic
                arch = darts_formats.from_config(config)
                curve = files.curve_of(
                    content["learning_curves"]["Train/val_accuracy"],
                    NB301_EPOCHS,
                    shorter=True,
                )
                stratum = str(path.parent.relative_to(folder))
                seconds = float(content.get("runtime", np.nan))
                yield _Training(arch, curve, _none(), stratum, seconds)

    logs = _logs("darts", "percent", trainings(), "")
    return logs._replace(sha256=hashed.hexdigest())


def read_nb111(folder: str | os.PathLike, cells: HashedCells) -> CurveLogs:
    """Reads the curves of NAS-Bench-111 as fractions of the validation images.

    The further features are the table's accuracies after trainings of 4, 12, 36 and 108
    epochs, if `cells` has all of them.

    Args:
      folder: has files `HASH/repeat_1/results.json`, at any depth.
      cells: from `nb101_hashes.read`.

    Raises: `ValueError`, of one line that names the file, if one is damaged, of another
      form or of an unknown hash, or there is none.
    """
    folder, hashed = Path(folder), hashlib.sha256()
    rows = {name: row for row, name in enumerate(cells.hashes)}
    complete = all(budget in cells.accuracy for budget in _BUDGETS)

    def trainings() -> Iterator[_Training]:
        for path in files.find_files(folder, "repeat_1/results.json"):
            content = files.json_object(path, folder, hashed)
            with named_errors(path):
                name = path.parts[-3]
                if name not in rows:
                    raise ValueError(f"NAS-Bench-101 has no cell {printable(name)}")
                evaluations = content["evaluation_results"]
                values = [e["validation_accuracy"] for e in evaluations]
                curve, row = files.curve_of(values, NB111_EPOCHS), rows[name]
                budgets = _BUDGETS if complete else ()
                further = np.array([cells.accuracy[b][row] for b in budgets])
                yield _Training(cells.arch[row], curve, further, "", np.nan)

    logs = _logs("nasbench101", "fraction", trainings(), "")
    return logs._replace(sha256=hashed.hexdigest())


def _none() -> np.ndarray:
    return np.zeros(0)


def without_other_lists(entry: dict) -> int:
    """Keeps the curve of a training as an array, and empties its other lists.

    Returns: how many entries of a dict need the memory that is free again.
    """
    freed = 0
    for name, value in entry.items():
        if type(value) is list:
            if name == "eval_acc1es":
                entry[name] = np.array(value, np.float64)
            freed += len(value)
            value.clear()
    return freed * _ITEM // _ENTRY


def _logs(
    space: str, unit: str, trainings: Iterable[_Training], digest: str
) -> CurveLogs:
    """Stacks trainings.

    Args:
      space: of the architectures.
      unit: of the curves.
      trainings: at least one.
      digest: SHA-256 of the file.
    """
    stacked = list(trainings)
    if not stacked:
        raise ValueError("no training is left")
    arch, curves, further = (
        np.stack([getattr(t, name) for t in stacked])
        for name in ("arch", "curve", "further")
    )
    return CurveLogs(
        space=space,
        arch=arch.astype(np.int32),
        curves=curves,
        unit=unit,
        further=further,
        stratum=np.array([t.stratum for t in stacked]),
        seconds=np.array([t.seconds for t in stacked], np.float64),
        skipped={},
        sha256=digest,
    )
