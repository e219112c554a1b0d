"""Lists as tables: columns as wide as what is in them, nothing cut where nobody looks at a terminal."""

from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.text import Text

from taskengine.cli.safe import clean
from taskengine.cli.terminal import is_terminal, make_console

__all__ = ["show_table"]

_GAP = "  "


def show_table(heads: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO, *, headers: bool = True) -> None:
    """A head line, unless `headers` is false, and one line a row. Cells are cleaned here."""
    cells = [[clean(cell) for cell in row] for row in rows]
    shown_heads = [heads] if headers else []
    widths = [max(map(cell_len, column)) for column in zip(*shown_heads, *cells, strict=True)]
    console = make_console(stream)
    lines = [*(_line(row, widths, "bold") for row in shown_heads), *(_line(row, widths, "") for row in cells)]
    for line in lines:
        if is_terminal(stream):
            line.truncate(console.width, overflow="ellipsis")
        console.print(line, soft_wrap=True)


def _line(row: Sequence[str], widths: Sequence[int], style: str) -> Text:
    padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
    return Text(_GAP.join(padded).rstrip(), style)
