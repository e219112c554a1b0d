"""The nearest valid thing to what somebody typed, and how to show what was typed."""

import difflib
import itertools
from collections.abc import Iterable
from typing import Final

__all__ = ["did_you_mean", "nearest", "quoted"]

_MAX_TYPED: Final = 64
_MAX_CANDIDATES: Final = 1_000
_MAX_SHOWN: Final = 80


def nearest(typed: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, or None.

    Looks at candidates of about the same length only, and at no more than a thousand of them: comparing is slow, and
    a definition may have a hundred thousand names.
    """
    if not 0 < len(typed) <= _MAX_TYPED:
        return None
    slack = max(2, len(typed) // 3)
    close = (name for name in candidates if abs(len(name) - len(typed)) <= slack)
    by_folded = {name.casefold(): name for name in itertools.islice(close, _MAX_CANDIDATES)}
    # Half of a name of two ideographs is as much as six letters of ten.
    cutoff = 0.6 if typed.isascii() else 0.5
    found = difflib.get_close_matches(typed.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def did_you_mean(typed: str, candidates: Iterable[str]) -> str:
    """ ", did you mean `x`?", to be put behind a message; "" when nothing is near."""
    found = nearest(typed, candidates)
    return f", did you mean {quoted(found)}?" if found else ""


def quoted(text: str) -> str:
    """A user's text between backquotes, on one line and not too long; control characters are escaped."""
    if len(text) > _MAX_SHOWN:
        text = text[: _MAX_SHOWN - 1] + "…"
    return f"`{''.join(char if char.isprintable() else _escaped(char) for char in text)}`"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
