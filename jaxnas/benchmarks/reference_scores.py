"""Recorded zero-cost scores of all cells of NAS-Bench-201, from the reference files."""

from __future__ import annotations

import os

import numpy as np

from jaxnas.benchmarks import sources
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz

_DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def zero_cost_table(path: str | os.PathLike | None = None) -> BenchmarkTable:
    """Scores of untrained networks of all cells of NAS-Bench-201, beside accuracies.

    Columns are those of `sources.nasbench201_table`; `<dataset>-one-run/test/200`, the
    accuracy of one run that the searches of the Free-Training NAS project report; and
    scores by four programs (Free-Training NAS, FreeREA, NAS-Bench-Suite-Zero and few-shot
    NAS), each with its own networks, images and constants: they are not comparable.

    Args:
      path: the reference file nb201_zerocost.npz; default: see `sources`. The file
        nb201_accuracy.npz has to be beside it.

    Raises: `ValueError` if one is missing, damaged, or holds something else.
    """
    path = sources.reference_file("nb201_zerocost.npz", path)
    accuracy_path = path.with_name("nb201_accuracy.npz")
    one_run = {d: f"e200_{d}_test_one_seed_zc" for d in _DATASETS}
    table, runs = sources.read_nasbench201(accuracy_path, list(one_run.values()))
    arrays, sha256 = npz.read_npz_and_digest(path)
    added = {f"{d}-one-run/test/200": runs[name] for d, name in one_run.items()}
    meanings = dict.fromkeys(added, "one run of one to three, drawn at random")
    try:
        scores, score_meanings = _score_columns(arrays, len(table.arch))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path} holds no scores of NAS-Bench-201: {error}") from error
    manifest = {
        "source": f"nb201_zerocost.npz, and accuracies of {table.manifest['source']}",
        "sha256": sha256,
        "sha256_accuracies": table.manifest["sha256"],
        "columns": table.manifest["columns"] | meanings | score_meanings,
    }
    columns = table.columns | added | scores
    made = BenchmarkTable("zerocost", table.space, table.arch, columns, manifest)
    return sources.validated(path, made)


def _score_columns(
    arrays: dict[str, np.ndarray], num: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Renames the arrays of the reference file to score columns of `num` rows.

    Returns: the columns `score/...` and `scoring/...`, and what each means.
    """
    columns: dict[str, np.ndarray] = {}
    meanings: dict[str, str] = {}

    def add(proxy: str, dataset: str, values: np.ndarray, meaning: str) -> None:
        # A program that failed everywhere has a column of NaN.
        if not np.isnan(values).all():
            columns[f"score/{proxy}/{dataset}"] = np.asarray(values, np.float64)
            meanings[f"score/{proxy}/{dataset}"] = meaning

    for dataset in _DATASETS:
        for proxy in ("hook_logdet", "synflow", "snip"):
            values = arrays[f"zc_{dataset}_{proxy}"]
            add(proxy, dataset, values, "Free-Training NAS, one batch of 128")
            cost = f"scoring/{proxy}/{dataset}"
            columns[cost] = arrays[f"zc_{dataset}_{proxy}_time_s"]
            meanings[cost] = "seconds on its GPU, with copying the network there"
        for proxy in ("logsynflow", "naswot", "nregions", "synflow"):
            values = arrays[f"freerea_{dataset}_{proxy}"]
            add(f"freerea-{proxy}", dataset, values, "FreeREA")
    for dataset in ("cifar10", "ImageNet16-120"):
        rows, values = (arrays[f"suitezero_{dataset}{end}"] for end in ("_idx", ""))
        for proxy, column in zip(arrays["suitezero_columns"], values.T, strict=True):
            full = np.full(num, np.nan)
            full[rows] = column
            meaning = "NAS-Bench-Suite-Zero, a part of the cells; -1e8 is a failure"
            add(f"suitezero-{proxy}", dataset, full, meaning)
    for supernet in ("oneshot", "fewshot"):
        meaning = (
            f"{supernet} supernet (few-shot NAS): accuracy with shared weights, percent"
        )
        values = arrays[f"supernet_acc_{supernet}"]
        add(f"{supernet}-supernet", "cifar10", values, meaning)
    return columns, meanings
