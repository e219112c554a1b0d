"""What the format will have and does not have yet: refused by name, so that nobody believes it works.

docs/not-yet.md has the same list for readers; a test compares them.
"""

from collections.abc import Mapping
from typing import Final

__all__ = [
    "LATER_BUILDER",
    "LATER_COMPENSATION",
    "LATER_ROOTS",
    "LATER_TASK",
    "LATER_VALUES",
    "LATER_WORKFLOW",
    "TWO_SECTIONS",
    "not_yet",
]

LATER_WORKFLOW: Final = frozenset(
    {"concurrency", "handlers", "schedule"},
)
LATER_TASK: Final = frozenset(
    {
        "cache",
        "handlers",
        "template",
    }
)
LATER_COMPENSATION: Final = frozenset({"on"})
LATER_VALUES: Final[Mapping[str, frozenset[str]]] = {
    "mode": frozenset({"streaming"}),
    "executor": frozenset({"cluster"}),
}
LATER_ROOTS: Final = frozenset({"schedule", "secrets"})
"""Names inside expressions."""

LATER_BUILDER: Final = frozenset(
    {
        "with_cache",
        "with_concurrency",
        "with_cron_expr",
        "with_handler",
        "with_realtime_task",
        "with_schedule",
        "with_streaming_mode",
        "with_template",
    }
)

TWO_SECTIONS: Final = "workflows"
"""The root key of the older file shape, `workflows: {jobs: [...], definitions: [...]}`."""


def not_yet(what: str) -> str:
    return f"{what} is not supported yet; see docs/not-yet.md"
