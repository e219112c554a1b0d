"""Results that stay in an instance's memory until their last dependent has ended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from taskengine.engine.planner.cast import Cast
from taskengine.engine.planner.task import Task
from taskengine.model.artifacts import is_reference, referred
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.states import TaskState
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import Store

__all__ = ["Results", "gathered", "whole_results"]

_N = TypeVar("_N", bound=int)
_PAGE: Final = 500


async def whole_results(found: Mapping[_N, bytes], artifacts: Artifacts) -> dict[_N, bytes]:
    """With what the artifact store has instead of the references to it. Raises StoreCorrupt, StoreUnavailable."""
    return {
        ordinal: await artifacts.get(referred(result)) if is_reference(result) else result
        for ordinal, result in found.items()
    }


async def gathered(store: Store, artifacts: Artifacts, instance_id: InstanceId, ordinals: Sequence[int]) -> bytes:
    """The results of these tasks as one JSON list; null for one that has none.

    Raises StoreCorrupt, StoreUnavailable.
    """
    parts: list[bytes] = []
    for start in range(0, len(ordinals), _PAGE):
        page = [Ordinal(ordinal) for ordinal in ordinals[start : start + _PAGE]]
        found = await whole_results(await store.results(instance_id, page), artifacts)
        parts += [found.get(ordinal, b"null") for ordinal in page]
    return b"[" + b",".join(parts) + b"]"


class Results:
    """Small results by ordinal. What is not here is read back from the store.

    A result is counted out by how many dependents it has: each launch of one takes it once. A retried dependent may
    find it gone; then it is read like a large one.
    """

    def __init__(self, cast: Cast, limit_bytes: int) -> None:
        self._cast = cast
        self._limit = limit_bytes
        self._kept: dict[int, bytes] = {}
        self._uses: dict[int, int] = {}
        self._empty: set[int] = set()

    def keep(self, ordinal: int, result: bytes | None) -> None:
        """A body has succeeded."""
        uses = len(self._cast.dependents[ordinal])
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
