"""Tables on the terminal, as wide as their numbers need."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def plain(title: str | None = None) -> Table:
    """Makes a table without columns and without borders.

    Args:
      title: a line above it, on the left.
    """
    options = {"box": box.SIMPLE_HEAD, "title_justify": "left"}
    return Table(title=title, pad_edge=False, collapse_padding=True, **options)


def show_rows(
    console: Console,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
) -> None:
    """Prints cells as a table: the first column to the left, numbers to the right.

    Args:
      console: the output.
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
    """Prints a table without shortening any cell, as a number that is cut is useless.

    Lines that are longer than the console is wide run over its edge.
    """
    unlimited = console.options.update(max_width=10_000)
    needed = console.measure(table, options=unlimited).maximum
    if needed > console.width:
        console = Console(file=console.file, width=needed)
    console.print(table)
