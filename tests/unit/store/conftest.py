"""Decisions of one row or two, and a log that remembers."""

from typing import Any

import pytest

from taskengine.model.events import EventBody
from taskengine.model.records import Decision, EventRow, InstanceChange, InstanceRow, TaskChange, TaskGuard, TaskRow
from taskengine.model.states import InstanceState, Phase, TaskState


class Make:
    """Builders of decisions."""

    @staticmethod
    def decision(instance_id: str, seq: int, **parts: Any) -> Decision:
        event = EventRow(instance_id=instance_id, seq=seq, at_us=seq, body=EventBody(state=InstanceState.RUNNING))
        return Decision(instance_id=instance_id, event=event, **parts)

    def start(self, instance_id: str, tasks: int = 1, **values: Any) -> Decision:
        """The row, `tasks` Ready tasks, the event with seq 1."""
        row = InstanceRow(**{"id": instance_id, "workflow_id": "w", "version": "v", "phase": Phase.RUN, **values})
        ready = tuple(
            TaskChange(TaskRow(ordinal=number, name=f"t{number}", state=TaskState.READY, attempt=1))
            for number in range(tasks)
        )
        return self.decision(instance_id, 1, instance=InstanceChange(row), tasks=ready)

    def move(
        self, instance_id: str, seq: int, expect: TaskState = TaskState.READY, become: TaskState = TaskState.RUNNING
    ) -> Decision:
        """Task 0 goes from one state to another."""
        row = TaskRow(ordinal=0, name="t0", state=become, attempt=1)
        return self.decision(instance_id, seq, tasks=(TaskChange(row, TaskGuard(expect, 1)),))

    def stale(self, instance_id: str, seq: int) -> Decision:
        """Expects what no test ever commits."""
        return self.move(instance_id, seq, TaskState.WAITING, TaskState.FAILED)


@pytest.fixture
def make() -> Make:
    return Make()


class RecordingLog:
    """Events with their fields, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))

    info = warning = error = debug

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.lines]


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()
