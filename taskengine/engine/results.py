"""Results that stay in an instance's memory until their last dependent has ended."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from taskengine.engine.planner.ledger import Task
from taskengine.engine.planner.shape import Shape
from taskengine.model.artifacts import is_reference, referred
from taskengine.model.states import TaskState
from taskengine.store.artifacts import Artifacts

__all__ = ["Results", "whole_results"]

_N = TypeVar("_N", bound=int)


async def whole_results(found: Mapping[_N, bytes], artifacts: Artifacts) -> dict[_N, bytes]:
    """With what the artifact store has instead of the references to it. Raises StoreCorrupt, StoreUnavailable."""
    return {
        ordinal: await artifacts.get(referred(result)) if is_reference(result) else result
        for ordinal, result in found.items()
    }


class Results:
    """Small results by ordinal. What is not here is read back from the store.

    A result is counted out by how many dependents it has: each launch of one takes it once. A retried dependent may
    find it gone; then it is read like a large one.
    """

    def __init__(self, shape: Shape, limit_bytes: int) -> None:
        self._shape = shape
        self._limit = limit_bytes
        self._kept: dict[int, bytes] = {}
        self._uses: dict[int, int] = {}
        self._empty: set[int] = set()

    def keep(self, ordinal: int, result: bytes | None) -> None:
        """A body has succeeded."""
        uses = len(self._shape.dependents[ordinal])
        self._empty.discard(ordinal)
        self._kept.pop(ordinal, None)  # of an earlier run
        self._uses.pop(ordinal, None)
        if result is None:
            self._empty.add(ordinal)
        elif uses and len(result) <= self._limit:
            self._kept[ordinal] = result
            self._uses[ordinal] = uses

    def take(self, ordinals: Iterable[int]) -> dict[int, bytes]:
        """What is at hand of these, for one launch."""
        found = {}
        for ordinal in ordinals:
            result = self._kept.get(ordinal)
            if result is not None:
                found[ordinal] = result
                self._count_out(ordinal)
        return found

    def maybe_stored(self, ordinal: int, task: Task) -> bool:
        """Whether the store may have a result that is not here."""
        return task.state is TaskState.SUCCESS and ordinal not in self._empty

    def _count_out(self, ordinal: int) -> None:
        self._uses[ordinal] -= 1
        if not self._uses[ordinal]:
            del self._kept[ordinal], self._uses[ordinal]
