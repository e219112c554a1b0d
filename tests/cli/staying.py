"""What a test that makes up command lines must not call in its own process."""

from typing import Final

__all__ = ["STAYING"]

STAYING: Final = frozenset({"serve", "server"})
"""Commands that do not end by themselves. Hypothesis takes texts from the program's source, too, so it finds them."""
