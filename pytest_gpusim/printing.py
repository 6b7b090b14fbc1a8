"""Lines of a terminal of 80 to 200 columns: prose is wrapped, tables are laid out, nothing is cut.

Columns are counted as a terminal does: signs of East Asia take two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

NARROWEST, WIDEST = 80, 200
WIDE = 110
"""From so many columns on, tables have all their columns."""
_NO_TERMINAL = 120
_FEW = 12  # columns that a name needs at least, folded


def terminal_width(otherwise: int = _NO_TERMINAL) -> int:
    """Columns of the terminal or of ``COLUMNS``, between 80 and 200, where there is one of them."""
    import shutil

    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((otherwise, 24)).columns))


def printed_width() -> int | None:
    """Columns that standard output is to be wrapped into; None where it is a pipe or a file and
    ``COLUMNS`` does not say: prose then stays a line a fact.
    """
    import os
    import sys

    asked = os.environ.get("COLUMNS", "").isdecimal()
    return terminal_width() if asked or sys.stdout.isatty() else None


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, those that are too long for the terminal wrapped."""
    width = printed_width()
    for line in lines:
        for part in wrapped(line, width):
            print(part)


def wrapped(line: str, width: int | None, below: str | None = None) -> list[str]:
    """A line in pieces of ``width`` columns; None leaves it whole.

    Words stay whole, so that a path or a digest can be copied, wider than the terminal or not.

    Args:
        line: The line.
        width: In columns.
        below: What the second and later pieces begin with; by default blanks, two more than the
            first has.
    """
    from rich.cells import cell_len

    if width is None or cell_len(line) <= width:
        return [line]
    if below is None:
        below = " " * (len(line) - len(line.lstrip(" ")) + 2)
    pieces, piece = [], ""
    for word in re.findall(r" *[^ ]+", line):
        if piece.strip() and cell_len(piece + word) > width:
            pieces.append(piece)
            piece = below + word.lstrip(" ")
        else:
            piece += word
    return [*pieces, piece]


def table_lines(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    texts: Collection[int] = (0,),
    indent: int = 2,
) -> list[str]:
    """A table: numbers to the right and whole, texts to the left and folded where they must be.

    Args:
        header: The columns' names.
        rows: Their cells, as many each; a cell may have several lines.
        width: In columns; None: as wide as without a terminal.
        texts: Which columns are texts, by position.
        indent: Blanks before each line.
    """
    from rich.cells import cell_len
    from rich.table import Table

    room = (width or _NO_TERMINAL) - indent
    sizes = [
        max(cell_len(line) for cell in column for line in cell.split("\n"))
        for column in zip(header, *rows, strict=True)
    ]
    least = sum(min(size, _FEW) if at in texts else size for at, size in enumerate(sizes))
    gap = 2 if least + 2 * (len(sizes) - 1) <= room else 1
    # Where not even that fits, numbers are folded: rich would cut what may not be.
    fits = least + gap * (len(sizes) - 1) <= room
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for at, (name, size) in enumerate(zip(header, sizes, strict=True)):
        text = at in texts
        whole = fits and not text
        table.add_column(
            name,
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=whole,
            min_width=size if whole else None,
        )
    for row in rows:
        table.add_row(*row)
    return [(" " * indent + line).rstrip() for line in rendered(table, room)]


def rendered(table: Any, width: int) -> Iterator[str]:
    """The lines of one of rich's tables, in which names are only text."""
    from io import StringIO

    from rich.console import Console

    stream = StringIO()
    console = Console(
        file=stream, width=width, force_terminal=False, markup=False, emoji=False, highlight=False
    )
    console.print(table)
    return (line.rstrip() for line in stream.getvalue().splitlines())
