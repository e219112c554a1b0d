"""`taskengine server start`: the same as `taskengine serve`."""

from taskengine.cli.tree import LazyGroup

__all__ = ["command"]

command = LazyGroup(
    {"start": "serve:command"},
    name="server",
    help="Run a server. `server start` is the same as `serve`.",
    short_help="run a server: start",
)
