"""Sub-tasks as a body writes them and sees them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from taskengine.errors import InvalidInput
from taskengine.model.definition import TaskSpec
from taskengine.model.records import TaskFailure
from taskengine.model.shape import kind_of
from taskengine.model.states import TASK_BAD

__all__ = ["SubTask", "sources"]


class SubTask(msgspec.Struct, frozen=True, kw_only=True):
    """One sub-task. `name` is the one among its siblings; `status` as everywhere, such as Success or Failed."""

    name: str
    ordinal: int
    status: str
    attempt: int = 0
    result: Any = None
    error: TaskFailure | None = None

    @property
    def failed(self) -> bool:
        return self.status in TASK_BAD


_JSON: Final = msgspec.json.Encoder()


def sources(tasks: Iterable[object]) -> tuple[msgspec.Raw, ...]:
    """Each as it travels to the engine, which judges it. Raises InvalidInput for what is no task at all."""
    return tuple(msgspec.Raw(_source(task)) for task in tasks)


def _source(task: object) -> bytes:
    build = getattr(task, "build", None)
    spec = build() if callable(build) and not isinstance(task, Mapping) else task
    try:
        if isinstance(spec, TaskSpec):
            return _JSON.encode({"spec": spec})
        if isinstance(spec, Mapping):
            return _JSON.encode(spec)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"a sub-task cannot be written as JSON: {error}") from None
    raise InvalidInput(f"a sub-task is a mapping, a TaskBuilder or a TaskSpec, not {kind_of(task)}")
