"""Tasks that run another workflow: whose child an instance is, and what the task asks for.

A child is found from its parent, and its parent from it, without a column for either: its id follows from the attempt
that wants it, and its idempotency key names that attempt.
"""

import hashlib
import uuid
from typing import Any, Final

import msgspec

from taskengine.model.definition import WorkflowDefinition
from taskengine.model.ids import InstanceId, Ordinal

__all__ = ["CHILD_JOB", "MOST_LEVELS", "RESERVED", "ChildOf", "ChildRequest", "children_of", "parent_of"]

CHILD_JOB: Final = "workflow"
MOST_LEVELS: Final = 16
"""An instance has at most so many instances above it."""

RESERVED: Final = "child-of:"
"""Idempotency keys that begin so are those of children."""


class ChildRequest(msgspec.Struct, frozen=True):
    """What a task wants to be run. `params`: as a start gets them."""

    workflow: str
    params: dict[str, Any] = {}


class ChildOf(msgspec.Struct, frozen=True):
    """The attempt for which a child runs. Another attempt has another child; the same one never has two."""

    parent: InstanceId
    ordinal: Ordinal
    attempt: int

    @property
    def key(self) -> str:
        """The child's idempotency key."""
        return f"{RESERVED}{self.parent}/{self.ordinal}/{self.attempt}"

    @property
    def child(self) -> InstanceId:
        """The child's id: a UUID of version 8 (RFC 9562), made from the key."""
        return InstanceId(str(uuid.UUID(bytes=_as_version_8(hashlib.sha256(self.key.encode()).digest()[:16]))))


def children_of(definition: WorkflowDefinition) -> dict[str, str]:
    """The workflows that its tasks run, each with the first task that does."""
    found: dict[str, str] = {}
    for task in definition.tasks:
        if task.job == CHILD_JOB:
            found.setdefault(str(task.params.get(CHILD_JOB, "")), task.name)
    return found


def parent_of(key: str | None) -> ChildOf | None:
    """Whose child an instance with this idempotency key is; None: nobody's."""
    if key is None or not key.startswith(RESERVED):
        return None
    parent, _, place = key.removeprefix(RESERVED).rpartition("/")
    parent, _, ordinal = parent.rpartition("/")
    if not (parent and ordinal.isdecimal() and place.isdecimal()):
        return None
    return ChildOf(InstanceId(parent), Ordinal(int(ordinal)), int(place))


def _as_version_8(digest: bytes) -> bytes:
    made = bytearray(digest)
    made[6] = made[6] & 0x0F | 0x80
    made[8] = made[8] & 0x3F | 0x80
    return bytes(made)
