"""Who is next: higher priority first, among equals instances take turns, an instance's own offers go in their order."""

from collections import deque
from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from taskengine.model.ids import InstanceId, Ordinal

__all__ = ["TaskOffer", "Turns"]

TaskOffer = tuple[Ordinal, int]
"""A task's ordinal and the number of the attempt that may run."""


class _Round:
    """Those who wait under one priority.

    queues  of each instance that waits; there is one at least
    turns   the same in the order in which they come to their turn, and emptied queues of those that were dropped
    """

    __slots__ = ("queues", "turns")

    def __init__(self) -> None:
        self.queues: dict[InstanceId, deque[TaskOffer]] = {}
        self.turns: deque[tuple[InstanceId, deque[TaskOffer]]] = deque()


class Turns:
    """A queue of offers. To take the next one costs O(log n) of the priorities in use, whoever waits how long.

    An instance has a queue for each priority under which it waits, and a place in that priority's round: who was
    served goes to the end of the round, so that one with 100,000 offers holds up nobody. Strict: as long as higher
    ones come, lower ones wait.
    """

    __slots__ = ("_rounds", "ranks")

    def __init__(self) -> None:
        self.ranks: list[int] = []
        """A heap of the priorities under which somebody waits, negated; the first is that of the next. Only to read."""
        self._rounds: dict[int, _Round] = {}  # by rank

    def __len__(self) -> int:
        """Offers that wait; counted when asked for, O(instances). Whether any does, `ranks` says."""
        return sum(len(queue) for each in self._rounds.values() for queue in each.queues.values())

    def put(self, instance_id: InstanceId, offers: Iterable[TaskOffer], priority: int = 0) -> None:
        """Queue offers, at least one, behind those of this instance and priority that wait already."""
        each = self._rounds.get(-priority)
        if each is None:
            each = self._rounds[-priority] = _Round()
            heappush(self.ranks, -priority)
        queue = each.queues.get(instance_id)
        if queue is None:
            queue = each.queues[instance_id] = deque(offers)
            each.turns.append((instance_id, queue))
        else:
            queue.extend(offers)

    def pop(self) -> tuple[InstanceId, TaskOffer]:
        """Take the next one; there must be one."""
        each = self._rounds[self.ranks[0]]
        turn = each.turns.popleft()
        while not turn[1]:  # it was dropped
            turn = each.turns.popleft()
        instance_id, queue = turn
        offer = queue.popleft()
        if queue:
            each.turns.append(turn)
        else:
            del each.queues[instance_id]
            if not each.queues:
                del self._rounds[heappop(self.ranks)]
        return instance_id, offer

    def drop(self, instance_id: InstanceId) -> None:
        """Forget the offers of an instance. O(priorities in use)."""
        emptied = []
        for rank, each in self._rounds.items():
            queue = each.queues.pop(instance_id, None)
            if queue is not None:
                queue.clear()
                if not each.queues:
                    emptied.append(rank)
        for rank in emptied:
            del self._rounds[rank]
        if emptied:
            self.ranks[:] = self._rounds
            heapify(self.ranks)
