"""Names of the columns in the order of the codec's values."""

from typing import Final

__all__ = [
    "ARTIFACT",
    "ATTEMPT",
    "COMMAND",
    "DEFINITION",
    "EVENT",
    "FUNCTION",
    "IDENTITY",
    "INSTANCE",
    "INSTANCE_CHANGE",
    "LOG",
    "REMOVAL",
    "REMOVED",
    "TASK",
    "TASK_CHANGE",
    "TOKEN",
    "WORKFLOW",
]

Columns = tuple[str, ...]

_INSTANCE_MOVING: Final[Columns] = (
    *("state", "run", "phase", "hold", "verdict", "final", "compensate_asked", "hard", "deadline_us"),
    *("deadline_left_us", "started_us", "finished_us", "error"),
)
INSTANCE: Final[Columns] = (
    *("id", "workflow_id", "version", "params", "created_us", "idempotency_key"),
    *_INSTANCE_MOVING,
)
INSTANCE_CHANGE: Final[Columns] = (*_INSTANCE_MOVING, "id", "at_phase", "at_hold", "at_run")

_TASK_PLAIN: Final[Columns] = (
    *("name", "state", "attempt", "tries", "parent", "spec", "added_by", "begun", "due_us", "park", "key", "body_seq"),
    *("losses", "suspect", "reason", "started_us", "finished_us"),
)
TASK: Final[Columns] = ("instance_id", "ordinal", *_TASK_PLAIN, "result", "error")
TASK_CHANGE: Final[Columns] = (
    *_TASK_PLAIN,
    *("new_result", "result", "new_error", "error", "instance_id", "ordinal", "at_state", "at_attempt"),
)

ATTEMPT: Final[Columns] = (
    *("instance_id", "ordinal", "attempt", "run", "outcome", "started_us", "finished_us", "error"),
)
EVENT: Final[Columns] = ("instance_id", "seq", "at_us", "body")
COMMAND: Final[Columns] = ("instance_id", "id", "kind", "answer")
DEFINITION: Final[Columns] = ("version", "workflow_id", "canonical", "created_us")
FUNCTION: Final[Columns] = ("name", "path", "signature", "doc", "source_hash")
LOG: Final[Columns] = ("instance_id", "id", "task", "attempt", "level", "at_us", "message")
ARTIFACT: Final[Columns] = ("instance_id", "ordinal", "name", "digest", "size", "at_us")
REMOVAL: Final[Columns] = ("id", "at_run")
REMOVED: Final[Columns] = ("instance_id",)
TOKEN: Final[Columns] = ("id", "name", "scope", "digest", "created_us", "expires_us", "revoked_us")
WORKFLOW: Final[Columns] = ("id", "version")

IDENTITY: Final = frozenset({"id", "instance_id", "workflow_id", "version", "idempotency_key"})
"""Names by which something is found; never changed, also where a database cannot hold them as they are."""
