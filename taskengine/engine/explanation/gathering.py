"""Reads what an explanation is made from: rows of the few tasks that it names, and states of those on the way.

Several reads, so of no single moment; each of them sees committed state only.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from taskengine.engine.explanation.facts import MOST_NAMED, NO_TRAIL, InstanceFacts, Seen, TaskFacts, Trail
from taskengine.engine.explanation.trails import BLOCKED, OPEN, PASSED_OVER, Search, Trouble
from taskengine.engine.planner import Shape
from taskengine.engine.planner.trigger import TriggerVerdict, judge, settlement
from taskengine.model.added import added_spec
from taskengine.model.ids import Ordinal
from taskengine.model.progress import Progress
from taskengine.model.records import InstanceRow, ParkKind, TaskRow, Verdict
from taskengine.model.states import TASK_FINAL, InstanceState, TaskState
from taskengine.store.interface import RUNNING, Store

__all__ = ["Gathering"]

_S = TaskState

_ABOVE: Final = MOST_NAMED // 2
"""Places that are kept for tasks above the dependencies."""
_ADDED_NEEDS: Final = 10
"""Dependencies of an added task that are looked up: each costs a search by name."""
_OPEN: Final = frozenset(_S) - TASK_FINAL
_UNDER_WAY: Final = (*sorted(RUNNING), _S.READY)
_TROUBLES: Final[Mapping[TaskState, Trouble]] = {
    _S.PENDING: OPEN,
    _S.SKIPPED: PASSED_OVER,
    _S.UPSTREAM_FAILED: BLOCKED,
}
_AT_FAULT: Final = (_S.FAILED, _S.TIMED_OUT)
_TELLING: Final[Mapping[InstanceState, Sequence[TaskState]]] = {
    InstanceState.FAILED: _AT_FAULT,
    InstanceState.TIMED_OUT: (*_AT_FAULT, _S.CANCELLED),
    InstanceState.CANCELLED: (_S.CANCELLED,),
    InstanceState.COMPENSATING: (_S.COMPENSATING,),
    InstanceState.COMPENSATED: _AT_FAULT,
    InstanceState.COMPENSATION_FAILED: (_S.COMPENSATION_FAILED,),
    InstanceState.SUCCESS: (),
}
"""Of an instance in this state, the tasks to name; of the others those that are under way."""


class Gathering:
    """For one question about one instance."""

    def __init__(self, store: Store, instance: InstanceRow, shape: Shape) -> None:
        self._store, self._instance, self._shape = store, instance, shape
        self._search = Search(store, instance.id, shape)

    async def about_task(self, ordinal: int) -> TaskFacts:
        """`ordinal` is that of a task that is there."""
        task = await self._seen(ordinal)
        parent = None if task.row.parent < 0 else await self._seen(task.row.parent)
        needs = await self._needs(task)
        verdict = await self._verdict(task, needs) if task.state is _S.PENDING else TriggerVerdict.GO
        trouble = _TROUBLES.get(task.state)
        has_subs, count = _awaits_subs(task) or _failed_by_subs(task), self._store.count_tasks
        return TaskFacts(
            instance=self._instance,
            task=task,
            parent=parent,
            verdict=verdict,
            trail=NO_TRAIL if trouble is None else await self._trail(needs, trouble),
            at_once=self._shape.max_active,
            sub_tasks=await count(self._instance.id, parent=ordinal) if has_subs else {},
            companions=await self._companions(task, parent, verdict),
        )

    async def about_instance(self, progress: Progress) -> InstanceFacts:
        state = self._instance.state
        states = _TELLING.get(state)
        if states is None:
            ordinals, total = await self._under_way(progress)
        else:
            ordinals, total = await self._in(states)
        return InstanceFacts(
            instance=self._instance,
            progress=progress,
            tasks=await self._many(ordinals),
            total=total,
            note=await self._note() if state is InstanceState.QUARANTINED else "",
        )

    async def _note(self) -> str:
        last = await self._store.last_event(self._instance.id)
        return "" if last is None else last.body.reason

    async def _in(self, states: Sequence[TaskState]) -> tuple[list[Ordinal], int]:
        if not states:
            return [], 0
        found = await self._store.tasks_in(self._instance.id, states, limit=MOST_NAMED)
        if len(found) < MOST_NAMED:
            return found, len(found)
        counts = await self._store.count_tasks(self._instance.id)
        return found, max(len(found), sum(counts.get(state, 0) for state in states))

    async def _under_way(self, progress: Progress) -> tuple[list[Ordinal], int]:
        """What is under way; where there is nothing of the kind, what could begin."""
        found, total = await self._in(_UNDER_WAY)
        if found:
            return found, total
        pending = (await self._store.open_tasks(self._instance.id, len(self._shape.names), limit=MOST_NAMED)).pending
        return pending, max(progress.pending, len(pending))

    async def _trail(self, needs: Sequence[int], trouble: Trouble) -> Trail:
        found = await self._search.up(needs, trouble)
        direct, begins = set(found.near), set(found.roots)
        above = [ordinal for ordinal in found.roots if ordinal not in direct]
        # Those in which it begins come first, so that the named ones tell of it.
        near = sorted(found.near, key=lambda ordinal: ordinal not in begins)[: MOST_NAMED - min(len(above), _ABOVE)]
        roots = above[: MOST_NAMED - len(near)]
        return Trail(
            near=await self._many(near),
            roots=await self._many(roots),
            count=len(found.near),
            more=len(found.near) + len(above) - len(near) - len(roots),
            cut=found.cut,
        )

    async def _companions(self, task: Seen, parent: Seen | None, verdict: TriggerVerdict) -> tuple[Seen, ...]:
        """Other tasks than dependencies that matter, see TaskFacts."""
        of_parent: int | None = None
        if _awaits_subs(task):
            states, of_parent = sorted(_OPEN), task.row.ordinal
        elif _failed_by_subs(task):
            states, of_parent = list(_AT_FAULT), task.row.ordinal
        elif task.state is _S.CANCELLED and self._instance.verdict is Verdict.FAILED:
            states = list(_AT_FAULT)
        elif task.state is _S.PENDING and verdict is TriggerVerdict.GO and self._is_bounded(parent):
            states = list(_UNDER_WAY)
            of_parent = None if parent is None or parent.spec.max_parallel is None else parent.row.ordinal
        else:
            return ()
        found = await self._store.tasks_in(self._instance.id, states, parent=of_parent, limit=MOST_NAMED)
        return await self._many(found)

    def _is_bounded(self, parent: Seen | None) -> bool:
        return self._shape.max_active is not None or (parent is not None and parent.spec.max_parallel is not None)

    async def _verdict(self, task: Seen, needs: Sequence[int]) -> TriggerVerdict:
        counted = {"ok": 0, "bad": 0, "skipped": 0}
        for ordinal, state in zip(needs, await self._search.states(needs), strict=True):
            if state in TASK_FINAL:
                tolerant = ordinal < len(self._shape.specs) and self._shape.specs[ordinal].continue_on_failure
                counted[settlement(state, continue_on_failure=tolerant).value] += 1
        return judge(task.spec.trigger, len(needs), **counted)

    async def _needs(self, task: Seen) -> list[int]:
        """Ordinals of what it depends on; of an added task the first few."""
        if task.row.ordinal < len(self._shape.names):
            return self._shape.dependencies[task.row.ordinal]
        found = [await self._ordinal(name) for name in task.spec.depends_on[:_ADDED_NEEDS]]
        return [ordinal for ordinal in found if ordinal is not None]

    async def _ordinal(self, name: str) -> int | None:
        known = self._shape.ordinals.get(name)
        return await self._store.added_task(self._instance.id, name) if known is None else known

    async def _many(self, ordinals: Iterable[int]) -> tuple[Seen, ...]:
        return tuple([await self._seen(ordinal) for ordinal in ordinals])

    async def _seen(self, ordinal: int) -> Seen:
        row = await self._row(ordinal)
        specs = self._shape.specs
        return Seen(row, specs[ordinal] if row.spec is None else added_spec(specs, row, row.spec))

    async def _row(self, ordinal: int) -> TaskRow:
        found = await self._store.tasks(self._instance.id, after=ordinal - 1, limit=1)
        if found and found[0].ordinal == ordinal:
            return found[0]
        return TaskRow(ordinal=Ordinal(ordinal), name=self._shape.names[ordinal])


def _awaits_subs(task: Seen) -> bool:
    return task.state is _S.WAITING and task.row.park is ParkKind.SUBS


def _failed_by_subs(task: Seen) -> bool:
    return task.state is _S.FAILED and task.row.body_seq > 0
