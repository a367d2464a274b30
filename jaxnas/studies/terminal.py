"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def plain(title: str | None = None) -> Table:
    """A table without columns yet, and without borders."""
    looks = {"box": box.SIMPLE_HEAD, "title_justify": "left"}
    return Table(title=title, pad_edge=False, collapse_padding=True, **looks)


def show_rows(
    console: Console,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
) -> None:
    """Prints cells as a table: the first column to the left, numbers to the right.

    Args:
      console: where.
      header: the names of the columns.
      rows: the cells of each row, as many as the header has.
      title: a line above the table.
    """
    if title is not None:
        console.print(title, highlight=False, soft_wrap=True)
    table = plain()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    show(console, table)


def show(console: Console, table: Table) -> None:
    """Prints the whole of a table: where there is no room its lines run over.

    A number that is cut off is none.
    """
    anything = console.options.update(max_width=10_000)
    needed = console.measure(table, options=anything).maximum
    if needed > console.width:
        console = Console(file=console.file, width=needed)
    console.print(table)
