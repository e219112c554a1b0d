"""The version of this program. Packaging reads it from here, so it is written once."""

from typing import Final

__all__ = ["VERSION"]

VERSION: Final = "0.1.0"
