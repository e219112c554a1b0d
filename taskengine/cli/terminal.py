"""What the two output streams are: a terminal or not, coloured or not, animated or not."""

import os
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["colour_wanted", "is_animated", "is_terminal", "make_console", "speaks_unicode"]

_UNBOUNDED: Final = 1_000_000
"""A width at which nothing is cut: who reads a pipe wants all of it."""


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def colour_wanted(stream: TextIO) -> bool:
    """NO_COLOR is the strongest, then FORCE_COLOR; without either a terminal that is not dumb has colour."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_animated(stream)


def is_animated(stream: TextIO) -> bool:
    """Whether lines may be drawn over. FORCE_COLOR does not change it: a file cannot be drawn over."""
    return is_terminal(stream) and os.environ.get("TERM", "") not in ("", "dumb")


def speaks_unicode(stream: TextIO) -> bool:
    """Whether the glyphs of the status can be written."""
    return (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def make_console(stream: TextIO) -> "Console":
    """A rich console that follows these rules and not its own; as wide as the terminal, unbounded elsewhere."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            """Whoever called the command decides what it means that nobody reads any more; rich would exit with 1."""
            raise

    coloured, terminal = colour_wanted(stream), is_terminal(stream)
    return PipedConsole(
        file=stream,
        force_terminal=coloured or is_animated(stream),
        no_color=not coloured,
        color_system="auto" if coloured else None,
        width=None if terminal else _UNBOUNDED,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=not terminal,
        # Exported COLUMNS and LINES are of the time before the window was resized; only the terminal itself knows.
        _environ={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")},
    )
