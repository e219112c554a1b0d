"""Why an instance or a task is where it is, over the wire."""

from datetime import datetime

import msgspec

__all__ = ["Cause", "Explanation", "Release"]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A task that has to do with it. `reason`: what is the matter with it, as a part of a sentence."""

    task: str
    status: str
    reason: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """Something that would move it on.

    what     as a part of a sentence
    command  to type for it; null: nobody has to do anything, or nobody can
    at       when it comes by itself; null: nobody knows, or it does not
    """

    what: str
    command: str | None = None
    at: datetime | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why an instance, or one of its tasks, waits or has ended as it did, and what would move it on.

    task             null: it is about the whole instance
    status           of the task, or of the instance
    why              one sentence
    because          tasks that have to do with it, at most 20
    more             how many others have, too
    """

    instance_id: str
    instance_status: str
    task: str | None
    status: str
    why: str
    because: list[Cause] = []
    more: int = 0
    releases: list[Release] = []
