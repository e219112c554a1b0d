"""Slots for bodies: a counter, and for each pool a queue in which instances take turns.

A fan-out of 10,000 is 10,000 small entries here and no actor; a task's actor starts when its slot is granted. The
runner is no actor itself: to ask it costs a call, where two messages and two turns made up a tenth of a task.
"""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Final

from taskengine.clock import Clock
from taskengine.engine.directory import Directory
from taskengine.engine.places import COMMON, Place
from taskengine.engine.pools import PoolQueue
from taskengine.engine.turns import TaskOffer
from taskengine.engine.views import PoolStatus
from taskengine.errors import UnknownPool
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.messages import Granted
from taskengine.model.pools import Pool, no_pool

__all__ = ["Runner"]

_AT_ONCE: Final = 32
_Entry = tuple[InstanceId, PoolQueue, TaskOffer]


class Runner:
    """Grants at most `slots` bodies at a time, and in a pool no more than it has slots and tokens.

    Of all that may start the highest priority is first. Among equals the pools take turns (the tasks without a pool
    are one of them), and in a pool the instances; an instance's offers of one pool and priority go in their order. A
    pool that is full, or waits for a token, holds up nobody else; its timer is armed for the moment of the token.

    A slot is taken from the grant until its body has really ended, so that a body that would not stop does not make
    room for one more than allowed; not even when its instance has ended or was built anew.

    Attempts that are to be alone of their kind have a queue of their own, and one of them runs at a time, whatever
    its instance: so the one that ends the process is found out and not those that were running beside it.

    Belongs to the loop's thread. Nothing survives a crash: recovery offers anew, rates begin with a full bucket.
    """

    def __init__(self, slots: int, directory: Directory, clock: Clock, pools: Iterable[Pool] = ()) -> None:
        self.slots = slots
        self._directory = directory
        self._clock = clock
        self._common = PoolQueue(Pool("", slots + 1))  # never full before the workers are
        self._pools = {pool.name: PoolQueue(pool) for pool in pools}
        self._queues = (self._common, *self._pools.values())
        self._open: list[tuple[int, int, PoolQueue]] = []  # a heap: those that can go on; priority, negated, and turn
        self._numbers = itertools.count(1)
        self._alone: deque[_Entry] = deque()
        self._on_trial: tuple[InstanceId, TaskOffer] | None = None
        self._held: dict[InstanceId, dict[TaskOffer, PoolQueue]] = {}
        self._free = slots
        self._closing = False
        self.on_idle: Callable[[], object] | None = None  # called when the last slot is given back

    # -- how it is ---------------------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self.slots - self._free

    @property
    def queued(self) -> int:
        """Attempts that wait for a slot; counted when asked for, so not for every task."""
        return len(self._alone) + sum(len(queue.turns) for queue in self._queues)

    def pools(self) -> list[PoolStatus]:
        """How each pool is; counted when asked for."""
        alone = Counter(queue.pool.name for _, queue, _ in self._alone)
        return [PoolStatus(it.pool, it.running, len(it.turns) + alone[name]) for name, it in self._pools.items()]

    def require(self, pool: str) -> None:
        """Raises UnknownPool when there is none of this name; the empty name stands for none and is fine."""
        if pool and pool not in self._pools:
            raise UnknownPool(no_pool(pool, self._pools))

    # -- offers and slots --------------------------------------------------------------------------------------

    def request(
        self, instance_id: InstanceId, offers: Sequence[TaskOffer], place: Place = COMMON, *, alone: bool = False
    ) -> list[TaskOffer]:
        """Queue committed attempts, for the instance's own actor. Gives those that are granted at once.

        At most 32 of them, so that the actor's turn stays short; every other grant comes as a message. Offers of an
        unknown pool are bounded by the workers alone: the attempt is to say what is wrong.
        """
        pool, priority = place
        queue = self._pools.get(pool, self._common) if pool else self._common
        granted: list[TaskOffer] = []
        if alone:
            self._alone.extend((instance_id, queue, offer) for offer in offers)
        else:
            at_once = self._at_once(instance_id, queue, len(offers)) if self._free else 0
            if at_once:
                granted.extend(offers[:at_once])
                for offer in granted:
                    self._hold(instance_id, queue, offer)
                if at_once == len(offers):
                    return granted
                offers = offers[at_once:]
            queue.turns.put(instance_id, offers, priority)
            if not queue.number or queue.rank > -priority:
                self._consider(queue)
        if self._free:
            self._hand_out(instance_id, granted)
        return granted

    def release(self, instance_id: InstanceId, ordinal: Ordinal, attempt: int) -> None:
        """The body has really ended. A slot that is not held is not given back twice."""
        self._take_back(instance_id, (ordinal, attempt))
        if self._open or self._alone:
            self._hand_out(None, [])

    def decline(self, instance_id: InstanceId, ordinal: Ordinal, attempt: int) -> None:
        """The slot comes back and no body has begun, so that the start does not count against a rate."""
        offer = (ordinal, attempt)
        queue = self._held.get(instance_id, {}).get(offer)
        if queue is not None and queue.meter is not None:
            queue.meter.give_back(queue.tokens[instance_id, offer])
            self._disarm(queue)
        self._take_back(instance_id, offer)
        if queue is not None:
            self._consider(queue)
        self._hand_out(None, [])

    def forget(self, instance_id: InstanceId) -> None:
        """Its actor is gone: drop its offers, and take back what was granted to it and has no body."""
        for queue in self._queues:
            if queue.turns.ranks:
                queue.turns.drop(instance_id)
        if self._alone:
            self._alone = deque(entry for entry in self._alone if entry[0] != instance_id)
        for offer in list(self._held.get(instance_id, ())):
            if (instance_id, *offer) not in self._directory.bodies:
                self._take_back(instance_id, offer)
        self._hand_out(None, [])

    def close(self) -> None:
        """Grant nothing any more."""
        self._closing = True
        for queue in self._queues:
            self._disarm(queue)

    # -- who is next -------------------------------------------------------------------------------------------

    def _at_once(self, instance_id: InstanceId, queue: PoolQueue, offers: int) -> int:
        """How many may have a slot without overtaking anybody, of those that are offered; there is a free slot.

        As long as one is free nobody waits in a pool that could go on. A rate is no matter of this moment alone: who
        waits for its token may be due already, so such a pool goes the long way.
        """
        if not queue.free or queue.meter is not None or self._closing:
            return 0
        if self._directory.get(instance_id) is None:
            return 0
        return offers if offers == 1 else min(offers, self._free, queue.free, _AT_ONCE)

    def _hand_out(self, asker: InstanceId | None, granted: list[TaskOffer]) -> None:
        while self._free and not self._closing:
            entry = self._next_alone() if self._alone else None
            if entry is None:
                entry = self._next_in_turn()
            if entry is None:
                return
            instance_id, queue, offer = entry
            ref = self._directory.get(instance_id)
            if ref is None:  # its actor is gone, or going; recovery offers anew
                self._clear_trial(instance_id, offer)
                continue
            self._hold(instance_id, queue, offer)
            if instance_id == asker and len(granted) < _AT_ONCE:
                granted.append(offer)
            else:
                ref.tell(Granted(*offer))

    def _next_alone(self) -> _Entry | None:
        if self._on_trial is not None or not self._can_go_on(self._alone[0][1]):
            return None
        entry = self._alone.popleft()
        self._on_trial = (entry[0], entry[2])
        return entry

    def _next_in_turn(self) -> _Entry | None:
        while self._open:
            rank, number, queue = self._open[0]
            ranks = queue.turns.ranks
            if number != queue.number:  # it has another place since
                heappop(self._open)
            elif not ranks or not queue.free or (queue.meter is not None and not self._can_go_on(queue)):
                heappop(self._open)
                queue.number = 0
            elif ranks[0] != rank:  # who had that priority is gone
                self._renew(queue)
            else:
                instance_id, offer = queue.turns.pop()
                if not ranks:
                    heappop(self._open)
                    queue.number = 0
                elif len(self._open) > 1 or ranks[0] != rank:
                    self._renew(queue)
                return instance_id, queue, offer
        return None

    def _renew(self, queue: PoolQueue) -> None:
        """The first of the heap goes behind all that have the priority of its next offer."""
        queue.rank, queue.number = queue.turns.ranks[0], next(self._numbers)
        heapreplace(self._open, (queue.rank, queue.number, queue))

    def _consider(self, queue: PoolQueue) -> None:
        """Something has changed for a pool: if it can go on now, it takes part in the turns."""
        ranks = queue.turns.ranks
        if not ranks or (queue.number and queue.rank <= ranks[0]) or self._closing:
            return
        if self._can_go_on(queue):
            queue.rank, queue.number = ranks[0], next(self._numbers)
            heappush(self._open, (queue.rank, queue.number, queue))

    def _can_go_on(self, queue: PoolQueue) -> bool:
        """Whether an attempt may begin in the pool. If a token is all that is missing, its timer is armed."""
        if not queue.free:
            return False
        if queue.meter is None or queue.meter.ready(self._clock.monotonic()):
            return True
        if queue.timer is None:
            queue.timer = self._clock.call_at(queue.meter.due_s, lambda: self._on_token(queue))
        return False

    def _on_token(self, queue: PoolQueue) -> None:
        queue.timer = None
        self._consider(queue)
        self._hand_out(None, [])

    @staticmethod
    def _disarm(queue: PoolQueue) -> None:
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None

    # -- slots -------------------------------------------------------------------------------------------------

    def _hold(self, instance_id: InstanceId, queue: PoolQueue, offer: TaskOffer) -> None:
        self._free -= 1
        queue.free -= 1
        if queue.meter is not None:
            queue.tokens[instance_id, offer] = queue.meter.take(self._clock.monotonic())
        held = self._held.get(instance_id)
        if held is None:
            self._held[instance_id] = {offer: queue}
        else:
            held[offer] = queue

    def _take_back(self, instance_id: InstanceId, offer: TaskOffer) -> None:
        held = self._held.get(instance_id)
        queue = None if held is None else held.pop(offer, None)
        if held is None or queue is None:
            return
        if not held:
            del self._held[instance_id]
        if self._on_trial is not None:
            self._clear_trial(instance_id, offer)
        self._free += 1
        queue.free += 1
        if queue.meter is not None:
            del queue.tokens[instance_id, offer]
        if queue.free == 1:  # it was full
            self._consider(queue)
        if self._free == self.slots and self.on_idle is not None:
            self.on_idle()

    def _clear_trial(self, instance_id: InstanceId, offer: TaskOffer) -> None:
        if self._on_trial == (instance_id, offer):
            self._on_trial = None
