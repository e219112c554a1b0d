"""What ids and task names look like: letters and digits of any script, `_`, `.`, `-`, 1..128 characters, NFC.

Two names that differ only in case are the same name, so neither `/` nor brackets nor case can confuse a path.
"""

import unicodedata
from typing import Final

__all__ = ["MAX_NAME", "composed", "fold", "name_fault"]

MAX_NAME: Final = 128
_MARKS: Final = frozenset({"Mn", "Mc"})
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def composed(text: str) -> str:
    """The text in Unicode's normal form C, in which names are kept and compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def fold(name: str) -> str:
    """What two names have in common when they count as the same one."""
    return name.lower() if name.isascii() else composed(composed(name).casefold())


def name_fault(text: str) -> str:
    """Why `text` is no legal id or name, as the end of a sentence ("is empty"); "" when it is one."""
    if not text:
        return "is empty"
    if len(text) > MAX_NAME:
        return f"has {len(text):,} characters, the limit is {MAX_NAME}"
    if not _PLAIN.issuperset(text):
        strange = next((char for at, char in enumerate(text) if not _may_stand(char, at)), "")
        if strange:
            return f"has {_called(strange)} in it; letters and digits of any script, `_`, `.` and `-` are allowed"
        if composed(text) != text:
            return "is not in Unicode's normal form C"
    if not text.strip("."):
        return "has only dots"
    return ""


def _may_stand(char: str, at: int) -> bool:
    # Vowel signs and tone marks are part of words in Hindi or Thai; in front of everything they join what is before.
    return char in _PLAIN or char.isalnum() or (at > 0 and unicodedata.category(char) in _MARKS)


def _called(char: str) -> str:
    if char == " ":
        return "a space"
    return f"`{char}`" if char.isprintable() else f"U+{ord(char):04X}"
