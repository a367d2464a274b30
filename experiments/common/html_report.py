"""A self-contained HTML page: tables, and figures embedded as base64."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxnas.io import files

# Header, and the cells of each line, as plain text.
Table = tuple[Sequence[str], Sequence[Sequence[str]]]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto;
  padding: 0 1em; color: #222; background: #fff; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2em 0.7em; text-align: right; border-bottom: 1px solid #ddd; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
figure { margin: 2em 0; } img { max-width: 100%; } div { overflow-x: auto; }
"""


def write(
    path: str | Path,
    title: str,
    intro: str,
    tables: Mapping[str, Table],
    folder: Path,
    figures: Mapping[str, str],
) -> None:
    """Writes the page, atomically.

    Args:
      path: the html file.
      title: heading, as plain text.
      intro: the paragraph below it, as plain text.
      tables: by heading, which may be empty.
      folder: the folder of the figures.
      figures: caption of each png file of the folder, in the page's order.

    Raises: `ValueError` if it cannot be written; `OSError` for a missing figure.
    """
    body = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(intro)}</p>"]
    for heading, (header, lines) in tables.items():
        body += [f"<h2>{html.escape(heading)}</h2>"] if heading else []
        body += [f"<div><table>{_row('th', header)}"]
        body += [*(_row("td", line) for line in lines), "</table></div>"]
    for name, caption in figures.items():
        data = base64.b64encode((folder / name).read_bytes()).decode()
        text = html.escape(caption, quote=True)
        body.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
            f"<figcaption>{text}</figcaption></figure>"
        )
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title>'
    lang = '<!doctype html>\n<html lang="en">'
    page = f"{lang}<head>{head}<style>{_STYLE}</style></head>\n<body>\n"
    page += "\n".join(body) + "\n</body></html>\n"
    files.atomic_write(path, page.encode())


def _row(tag: str, cells: Sequence[str]) -> str:
    """A row of a table whose cells are of this tag."""
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"
