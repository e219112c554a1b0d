"""The one place where text from outside is made fit for a terminal.

A task name, an error message or a log line may hold escape sequences that move the cursor, rewrite the title, write to
the clipboard, or turn the reading direction. They are shown, not obeyed: `\\x1b]52;…`. What comes out of here is
printed as rich `Text` or written plainly, never as markup.
"""

import re
from typing import Final

__all__ = ["clean", "clean_json", "clean_lines", "is_clean", "one_line"]

# C0 without tab and newline, DEL, C1, bidi controls, line and paragraph separator, lone surrogates.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_COLOUR: Final = re.compile("\x1b\\[[0-9;:]*m")
_LONGEST: Final = 10_000


def clean_lines(text: str) -> str:
    """The text without colours and with control characters spelled out; newlines and tabs stay."""
    return _UNSAFE.sub(_spelled, _COLOUR.sub("", text.replace("\r\n", "\n")))


def clean(text: str) -> str:
    """The same on one line: line breaks become spaces. At most 10,000 characters."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return clean_lines(text).replace("\n", " ").replace("\t", " ")


def one_line(text: str, width: int = 200) -> str:
    """The first line that says something, cleaned and cut to `width` characters."""
    first = next((line for line in text.splitlines() if line.strip()), "").strip()
    shown = clean(first)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def clean_json(document: str) -> str:
    """JSON text in which characters that a terminal would obey are written as escapes; the value stays the same."""
    return _UNSAFE.sub(_json_escape, document)


def is_clean(text: str) -> bool:
    """Whether a terminal would show exactly this text."""
    return not _UNSAFE.search(text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
