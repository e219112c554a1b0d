"""What one client wants to hear. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from taskengine.api.stream.frames import UpdateFrame, closed
from taskengine.errors import InvalidInput
from taskengine.model.states import InstanceState, TaskState

__all__ = ["ALL", "TYPES", "Choice", "Interest", "parse_choice"]

TYPES: Final = ("instance_status", "task_status", "log", "progress")
"""The kinds of frames that may be asked for. Snapshots, gaps and heartbeats belong to the stream itself."""

_STATUSES: Final = {state.value.lower(): state.value for kind in (InstanceState, TaskState) for state in kind}


class Choice(msgspec.Struct, frozen=True):
    """Which frames, of whatever instance. Hashable: clients with the same choice share their frames.

    types     empty: all
    statuses  only status frames with one of these; log and progress frames then come only if `types` names them.
              Empty: all
    """

    types: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()

    def has(self, kind: str) -> bool:
        """Whether a log or progress frame is wanted."""
        return kind in self.types if self.types else not self.statuses

    def of(self, frames: Sequence[UpdateFrame]) -> Sequence[UpdateFrame]:
        """Those frames of one number that are wanted; the last of them says no `more`."""
        if not self.types and not self.statuses:
            return frames
        return closed(
            [
                frame
                for frame in frames
                if (not self.types or frame.__struct_config__.tag in self.types)
                and (not self.statuses or frame.status in self.statuses)
            ]
        )


ALL: Final = Choice()


class Interest(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, or all instances of a workflow, or with neither every instance.

    keep   a stream of one instance goes on after its end: a retry opens a new run
    """

    instance_id: str | None = None
    workflow_id: str | None = None
    choice: Choice = ALL
    keep: bool = False

    @property
    def is_one(self) -> bool:
        return self.instance_id is not None

    def covers(self, instance_id: str, workflow_id: str) -> bool:
        if self.instance_id is not None and self.instance_id != instance_id:
            return False
        return self.workflow_id is None or self.workflow_id == workflow_id


def parse_choice(types: str | None, statuses: str | None) -> Choice:
    """`task_status,log` and `Failed,TimedOut` as a choice. Raises InvalidInput, naming what there is."""
    known = {name: name for name in TYPES}
    return Choice(_names(types, known, "types"), _names(statuses, _STATUSES, "status"))


def _names(text: str | None, known: dict[str, str], what: str) -> frozenset[str]:
    asked = [part.strip() for part in (text or "").split(",") if part.strip()]
    unknown = [name for name in asked if name.lower() not in known]
    if unknown:
        raise InvalidInput(f"{what}={unknown[0]!r} is not known; there are {', '.join(dict.fromkeys(known.values()))}")
    return frozenset(known[name.lower()] for name in asked)
