"""The cells of NAS-Bench-201 and NATS-Bench files, and the runs that belong to them.

A file has a list of all cells as texts, `meta_archs`, and for each trained cell a dict by
schedule, whose `all_results` are the runs by dataset and seed. The runs themselves have
been taken out by `nb201_runs`; here the dicts are checked and each run gets its cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxnas.benchmarks.importers.nb201_runs import Runs
from jaxnas.io.streams import printable
from jaxnas.spaces import nasbench201

# Epochs of the two schedules, by their names in the files.
_EPOCHS = {"less": 12, "full": 200, "12": 12, "200": 200}


def listed_cells(meta: Any) -> list[str]:
    """The cells as texts by index, including those that were not trained."""
    strings = meta.get("meta_archs") if type(meta) is dict else None
    if type(strings) is not list or any(type(text) is not str for text in strings):
        raise ValueError("wanted the list 'meta_archs' of cells, found none")
    if len(strings) > nasbench201.NUM_CELLS or len({*strings}) != len(strings):
        raise ValueError(f"it lists {len(strings)} cells, or one twice")
    return strings


def split_file(value: Any) -> tuple[list[str], dict]:
    """Checks the value of a file of all cells.

    Returns: all cells as texts, and the dicts of those that were trained, by index.
    Raises: `ValueError` if it has another form, or contradicts itself.
    """
    keys = ("meta_archs", "arch2infos", "evaluated_indexes")
    if type(value) is not dict or any(key not in value for key in keys):
        content = ", ".join(map(str, value)) if type(value) is dict else type(value)
        raise ValueError(
            f"it is not a file of NAS-Bench-201: wanted {', '.join(keys)}, "
            f"found {printable(content)}"
        )
    infos, indexes = value["arch2infos"], value["evaluated_indexes"]
    if type(infos) is not dict or type(indexes) not in (list, tuple, set):
        raise ValueError("its cells are not a dict, or the trained ones not a list")
    if any(type(index) is not int for index in (*indexes, *infos)):
        raise ValueError("it has an index that is not an integer")
    if {*indexes} != infos.keys():
        raise ValueError(f"it has {len(infos)} cells and says {len(indexes)}")
    return listed_cells(value), infos


def validate_cell(infos: Any, index: int, string: str) -> None:
    """Checks the runs of one cell.

    Args:
      infos: the dict of the cell, by schedule.
      index: of the cell.
      string: the cell as text.

    Raises: `ValueError` if it has another form, is of another cell, or has other runs
      than it lists.
    """
    if type(infos) is not dict or not infos:
        raise ValueError(f"cell {index} has no runs")
    for schedule, info in infos.items():
        if schedule not in _EPOCHS:
            raise ValueError(f"cell {index} has the schedule {printable(schedule)}")
        if type(info) is not dict:
            raise ValueError(f"cell {index} has no results")
        if (info.get("arch_index"), info.get("arch_str")) != (index, string):
            raise ValueError(f"cell {index} says that it is another one")
        results, seeds = info.get("all_results"), info.get("dataset_seed")
        if type(results) is not dict or type(seeds) is not dict:
            raise ValueError(f"cell {index} has no results")
        if any(type(seed) is not int for listed in seeds.values() for seed in listed):
            raise ValueError(f"cell {index} has a seed that is not an integer")
        pairs = [(dataset, seed) for dataset in seeds for seed in seeds[dataset]]
        if {*pairs} != results.keys() or len(pairs) != len(results):
            raise ValueError(f"cell {index} has other runs than it lists")


def assign_runs(
    runs: Runs, strings: list[str], infos: dict, partial: bool
) -> list[np.ndarray]:
    """Tells each run which cell it belongs to.

    Args:
      runs: the runs of the file.
      strings: all cells as texts.
      infos: the dicts of the trained cells, by index.
      partial: accept a file that lacks cells.

    Returns: the trained cells, (6,) int8 each, by index.
    """
    size = nasbench201.NUM_CELLS
    if not infos:
        raise ValueError("it has no trained cells")
    if len(infos) < size and not partial:
        raise ValueError(
            f"it has {len(infos)} of {size} cells: only as a partial table (--partial)"
        )
    cells = []
    for index in sorted(infos):
        if type(index) is not int or not 0 <= index < len(strings):
            raise ValueError(f"it has a cell {printable(index)} that it does not list")
        validate_cell(infos[index], index, strings[index])
        for schedule, info in infos[index].items():
            for (dataset, seed), state in info["all_results"].items():
                key = dataset, _EPOCHS[schedule]
                runs.assign(runs.number(state), len(cells), key, seed)
        cells.append(nasbench201.from_string(strings[index]).astype(np.int8))
    return cells
