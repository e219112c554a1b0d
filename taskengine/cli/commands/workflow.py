"""`taskengine workflow`: what can be done with a definition without running it."""

from typing import Final

from taskengine.cli.tree import LazyGroup

__all__ = ["command"]

_LATER: Final = frozenset({"upload", "list", "show", "delete", "execute", "export"})

command = LazyGroup(
    {"validate": "validate:command", "graph": "graph:command"},
    _LATER,
    name="workflow",
    help="Look at workflow files.",
    short_help="look at workflow files",
)
