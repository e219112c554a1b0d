"""The way up from a task to where its trouble begins, reading states only, and no more of them than needed."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec

from taskengine.engine.planner import Shape
from taskengine.engine.planner.trigger import Settlement, settlement
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.states import TASK_FINAL, TaskState
from taskengine.store.interface import Store

__all__ = ["BLOCKED", "OPEN", "PASSED_OVER", "Found", "Search", "Trouble"]

_MOST_LOOKED_AT: Final = 10_000
"""Of the tasks above the direct dependencies."""
_AHEAD: Final = 500
"""So many more are read together with one that is needed: a long chain is not read link by link."""


class Trouble(Protocol):
    """What makes a task wait, or kept it from running."""

    def counts(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        """Whether a dependency in this state has to do with it."""
        ...

    def comes_from_above(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        """Whether such a dependency has got it from its own ones."""
        ...


class _Open:
    """It has not ended."""

    def counts(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        return state not in TASK_FINAL

    def comes_from_above(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        return state is TaskState.PENDING


class _Blocked:
    """It ended bad, and that was not tolerated."""

    def counts(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        tolerant = ordinal < len(shape.specs) and shape.specs[ordinal].continue_on_failure
        return state in TASK_FINAL and settlement(state, continue_on_failure=tolerant) is Settlement.BAD

    def comes_from_above(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        return state is TaskState.UPSTREAM_FAILED


class _PassedOver:
    """It was skipped. One with a `when` is taken for the beginning: its row says whether that was false."""

    def counts(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        return state is TaskState.SKIPPED

    def comes_from_above(self, shape: Shape, ordinal: int, state: TaskState) -> bool:
        return ordinal < len(shape.specs) and not shape.specs[ordinal].when


OPEN: Final[Trouble] = _Open()
BLOCKED: Final[Trouble] = _Blocked()
PASSED_OVER: Final[Trouble] = _PassedOver()


class Found(msgspec.Struct, frozen=True):
    """Ordinals of dependencies that count, and of the tasks in which it begins; cut: some were not looked at."""

    near: list[int]
    roots: list[int]
    cut: bool = False


class Search:
    """Of one instance. Remembers the states that it has read."""

    def __init__(self, store: Store, instance_id: InstanceId, shape: Shape) -> None:
        self._store, self._instance_id, self._shape = store, instance_id, shape
        self._states: dict[int, TaskState] = {}
        self._left = _MOST_LOOKED_AT

    async def states(self, ordinals: Sequence[int]) -> list[TaskState]:
        """In the same order; a task without a row is Pending."""
        await self._read(ordinals)
        return [self._states[ordinal] for ordinal in ordinals]

    async def up(self, needs: Sequence[int], trouble: Trouble) -> Found:
        """From a task with these dependencies, the nearest first."""
        await self._read(needs)
        near = [need for need in needs if trouble.counts(self._shape, need, self._states[need])]
        roots: list[int] = []
        seen, queue = set(near), deque(near)
        while queue:
            ordinal = queue.popleft()
            inherited = trouble.comes_from_above(self._shape, ordinal, self._states[ordinal])
            above = self._above(ordinal) if inherited else ()
            if not await self._know(above):
                return Found(near, roots, cut=True)
            hits = [each for each in above if trouble.counts(self._shape, each, self._states[each])]
            if not hits:
                roots.append(ordinal)
            fresh = [each for each in hits if each not in seen]
            seen.update(fresh)
            queue.extend(fresh)
        return Found(near, roots)

    def _above(self, ordinal: int) -> Sequence[int]:
        """Of a task that was added only the direct dependencies are known."""
        dependencies = self._shape.dependencies
        return dependencies[ordinal] if ordinal < len(dependencies) else ()

    async def _know(self, ordinals: Sequence[int]) -> bool:
        """False: that would be too many."""
        self._left -= len(ordinals)
        if self._left < 0:
            return False
        if any(ordinal not in self._states for ordinal in ordinals):
            await self._read([*ordinals, *self._further(ordinals)])
        return True

    def _further(self, ordinals: Iterable[int]) -> list[int]:
        """What may be asked for next, whatever the states in between turn out to be."""
        found: list[int] = []
        queue, seen = deque(ordinals), set(ordinals)
        while queue and len(found) < _AHEAD:
            for above in self._above(queue.popleft())[:_AHEAD]:
                if above not in seen:
                    seen.add(above)
                    queue.append(above)
                    found.append(above)
        return found

    async def _read(self, ordinals: Iterable[int]) -> None:
        unknown = sorted({ordinal for ordinal in ordinals if ordinal not in self._states})
        if not unknown:
            return
        found = await self._store.task_states(self._instance_id, unknown)
        self._states.update((ordinal, found.get(Ordinal(ordinal), TaskState.PENDING)) for ordinal in unknown)
