"""The one table for terminals: aligned columns, and text shown as it is, brackets included."""

import sys
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_FILE_WIDTH = 160


def text_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    title: str | None = None,
    right: Collection[str] = (),
    whole: Collection[str] = (),
    framed: bool = True,
) -> Table:
    """Columns of numbers are named in `right`, columns that are never folded in `whole`; without headings there is no head."""
    table = Table(title=None if title is None else Text(title), show_header=any(headings))
    if not framed:
        table.box, table.pad_edge, table.title_justify = None, False, "left"
    for heading in headings:
        table.add_column(
            Text(heading),
            justify="right" if heading in right else "left",
            no_wrap=heading in whole,
            overflow="fold",
        )
    for row in rows:
        # A plain string would be read as markup: "[red]" in the name of a file would vanish.
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def wide_console() -> Console:
    """Standard output; wide enough for a table where that is not a terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _FILE_WIDTH)
