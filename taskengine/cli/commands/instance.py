"""`taskengine instance`: look at instances and change them."""

from taskengine.cli.tree import LazyGroup

__all__ = ["command"]

command = LazyGroup(
    {
        "list": "looks:list_command",
        "history": "looks:history_command",
        "status": "looks:status_command",
        "diff": "looks:diff_command",
        "events": "looks:events_command",
        "logs": "looks:logs_command",
        "watch": "looks:watch_command",
        "pause": "changes:pause_command",
        "resume": "changes:resume_command",
        "cancel": "changes:cancel_command",
        "retry": "changes:retry_command",
        "fork": "changes:fork_command",
        "signal": "changes:signal_command",
        "approve": "changes:approve_command",
        "reject": "changes:reject_command",
    },
    name="instance",
    help="Look at instances and change them.",
    short_help="look at instances and change them",
)
