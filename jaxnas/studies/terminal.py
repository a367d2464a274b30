"""Tables on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table


def plain(title: str | None = None) -> Table:
    """A table without columns yet, and without borders."""
    looks = {"box": box.SIMPLE_HEAD, "title_justify": "left"}
    return Table(title=title, pad_edge=False, collapse_padding=True, **looks)


def show(console: Console, table: Table) -> None:
    """Prints the whole of a table: where there is no room its lines run over.

    A number that is cut off is none.
    """
    anything = console.options.update(max_width=10_000)
    needed = console.measure(table, options=anything).maximum
    if needed > console.width:
        console = Console(file=console.file, width=needed)
    console.print(table)
