"""How things are: the snapshots that streams begin with, and what an instance's stream missed. Reads, never changes."""

from typing import Final, NamedTuple

from taskengine.api.shapes import instance_body, open_names, task_bodies
from taskengine.api.stream.frames import time_of
from taskengine.api.stream.interest import Interest
from taskengine.clock import Clock
from taskengine.engine.engine import Engine
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.store.interface import InstanceQuery
from taskengine.wire.frames import Snapshot

__all__ = ["MOST_INSTANCES", "MOST_TASKS", "Present", "Seen"]

MOST_TASKS: Final = 1000
"""Tasks in a snapshot; `GET /api/v1/instances/{id}/tasks` pages through all of them."""

MOST_INSTANCES: Final = 100
"""Instances in a snapshot; `GET /api/v1/instances` pages through all of them."""

_LOOKS: Final = 5
_UNFINISHED: Final = frozenset(InstanceState) - INSTANCE_FINAL


class Seen(NamedTuple):
    """A snapshot, and whether its one instance has ended."""

    snapshot: Snapshot
    ended: bool


class Present:
    """Committed state for streams."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def one(self, instance_id: str) -> Seen:
        """An instance as it was at its number `seq`. Raises NotFound.

        It is put together from several reads. When it keeps moving meanwhile the number is the one before all of them,
        and some of what it shows is told again by the updates that follow.
        """
        for _ in range(_LOOKS):
            number = await self.last_number(instance_id)
            view = await self._engine.get_instance(instance_id)
            tasks = await self._engine.get_tasks(instance_id)
            if await self.last_number(instance_id) == number:
                break
        running, pending = open_names(tasks)
        ended = view.status in INSTANCE_FINAL
        result = await self._engine.result(instance_id) if ended else None
        body = instance_body(view, running=running, pending=pending, result=result)
        return Seen(
            Snapshot(
                instances=[body],
                timestamp=time_of(self._clock.now_us()),
                tasks=task_bodies(tasks[:MOST_TASKS]),
                seq=number,
            ),
            ended,
        )

    async def many(self, interest: Interest, cursor: str) -> Snapshot:
        """The unfinished instances, the newest first, and how many there are in each state."""
        query = InstanceQuery(
            workflow_id=None if interest.workflow_id is None else WorkflowId(interest.workflow_id), states=_UNFINISHED
        )
        views = await self._engine.list_instances(query, limit=MOST_INSTANCES)
        return Snapshot(
            instances=[instance_body(view) for view in views],
            timestamp=time_of(self._clock.now_us()),
            cursor=cursor,
            counts=await self._counts(interest),
        )

    async def _counts(self, interest: Interest) -> dict[str, int]:
        if interest.workflow_id is None:
            found = await self._engine.store.status()
            return {state.value: count for state, count in found.instances.items()}
        workflow_id = WorkflowId(interest.workflow_id)
        counts = {
            state.value: await self._engine.count_instances(
                InstanceQuery(workflow_id=workflow_id, states=frozenset({state}))
            )
            for state in InstanceState
        }
        return {state: count for state, count in counts.items() if count}

    async def last_number(self, instance_id: str) -> int:
        """0: it has no event, or is not known."""
        last = await self._engine.store.last_event(InstanceId(instance_id))
        return 0 if last is None else last.seq

    async def ended(self, instance_id: str) -> bool:
        """Raises NotFound."""
        return (await self._engine.get_instance(instance_id)).status in INSTANCE_FINAL

    async def stored(self, instance_id: str, after: int) -> list[Event]:
        """The next page of what has happened to it; empty: there is no more."""
        return await self._engine.get_events(instance_id, after=after)

    async def require(self, interest: Interest) -> None:
        """Raises NotFound when there is no such instance or workflow."""
        if interest.instance_id is not None:
            await self._engine.get_instance(interest.instance_id)
        elif interest.workflow_id is not None:
            await self._engine.get_workflow(interest.workflow_id)
