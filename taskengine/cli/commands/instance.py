"""`taskengine instance`: look at runs and change them.

Without `--db` these commands look through the folders of the runs.
"""

from typing import Final

from taskengine.cli.tree import LazyGroup

__all__ = ["command"]

_LATER: Final = frozenset({"history", "logs", "fork", "signal", "watch", "diff", "approve", "reject"})

command = LazyGroup(
    {
        "list": "looks:list_command",
        "status": "looks:status_command",
        "pause": "changes:pause_command",
        "resume": "changes:resume_command",
        "cancel": "changes:cancel_command",
        "retry": "changes:retry_command",
    },
    _LATER,
    name="instance",
    help="Look at runs and change them.",
    short_help="look at runs and change them",
)
