"""Slots for bodies: a counter and a queue, round-robin over instances.

A fan-out of 10,000 is 10,000 small entries here and no actor; a task's actor starts when its slot is granted. The
runner is no actor itself: to ask it costs a call, where two messages and two turns made up a tenth of a task.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from taskengine.engine.directory import Directory
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.messages import Granted

__all__ = ["Runner"]

_Offer = tuple[Ordinal, int]
_AT_ONCE: Final = 32


class Runner:
    """Grants at most `slots` bodies at a time. Instances take turns, each instance's offers go in their order.

    A slot is taken from the grant until its body has really ended, so that a body that would not stop does not make
    room for one more than allowed; not even when its instance has ended or was built anew.

    Attempts that are to be alone of their kind have a queue of their own, and one of them runs at a time, whatever
    its instance: so the one that ends the process is found out and not those that were running beside it.

    Belongs to the loop's thread. Nothing survives a crash: recovery offers anew.
    """

    def __init__(self, slots: int, directory: Directory) -> None:
        self.slots = slots
        self._directory = directory
        self._queues: dict[InstanceId, deque[_Offer]] = {}
        self._turns: deque[InstanceId] = deque()
        self._alone: deque[tuple[InstanceId, _Offer]] = deque()
        self._on_trial: tuple[InstanceId, _Offer] | None = None
        self._held: dict[InstanceId, set[_Offer]] = {}
        self._free = slots
        self._closing = False
        self.on_idle: Callable[[], object] | None = None  # called when the last slot is given back

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self.slots - self._free

    @property
    def queued(self) -> int:
        """Attempts that wait for a slot; counted when asked for, so not for every task."""
        return len(self._alone) + sum(map(len, self._queues.values()))

    def request(self, instance_id: InstanceId, offers: Iterable[_Offer], *, alone: bool = False) -> list[_Offer]:
        """Queue committed attempts, for the instance's own actor. Gives those that are granted at once.

        At most 32 of them, so that the actor's turn stays short; every other grant comes as a message.
        """
        if alone:
            self._alone.extend((instance_id, offer) for offer in offers)
        else:
            queue = self._queues.get(instance_id)
            if queue is None:
                queue = self._queues[instance_id] = deque()
                self._turns.append(instance_id)
            queue.extend(offers)
        granted: list[_Offer] = []
        self._hand_out(instance_id, granted)
        return granted

    def release(self, instance_id: InstanceId, ordinal: Ordinal, attempt: int) -> None:
        """The body has really ended, or the grant was declined. A slot that is not held is not given back twice."""
        self._take_back(instance_id, (ordinal, attempt))
        self._hand_out(None, [])

    def forget(self, instance_id: InstanceId) -> None:
        """Its actor is gone: drop its offers, and take back what was granted to it and has no body."""
        if self._queues.pop(instance_id, None) is not None:
            self._turns.remove(instance_id)
        if self._alone:
            self._alone = deque(entry for entry in self._alone if entry[0] != instance_id)
        for offer in list(self._held.get(instance_id, ())):
            if (instance_id, *offer) not in self._directory.bodies:
                self._take_back(instance_id, offer)
        self._hand_out(None, [])

    def close(self) -> None:
        """Grant nothing any more."""
        self._closing = True

    def _hand_out(self, asker: InstanceId | None, granted: list[_Offer]) -> None:
        while self._free and not self._closing:
            if self._alone and self._on_trial is None:
                instance_id, offer = self._on_trial = self._alone.popleft()
            elif self._turns:
                instance_id, offer = self._next()
            else:
                return
            ref = self._directory.get(instance_id)
            if ref is None:  # its actor is gone, or going; recovery offers anew
                self._clear_trial(instance_id, offer)
                continue
            self._free -= 1
            self._held.setdefault(instance_id, set()).add(offer)
            if instance_id == asker and len(granted) < _AT_ONCE:
                granted.append(offer)
            else:
                ref.tell(Granted(*offer))

    def _next(self) -> tuple[InstanceId, _Offer]:
        instance_id = self._turns.popleft()
        queue = self._queues[instance_id]
        offer = queue.popleft()
        if queue:
            self._turns.append(instance_id)
        else:
            del self._queues[instance_id]
        return instance_id, offer

    def _take_back(self, instance_id: InstanceId, offer: _Offer) -> None:
        held = self._held.get(instance_id)
        if held is None or offer not in held:
            return
        held.remove(offer)
        if not held:
            del self._held[instance_id]
        self._clear_trial(instance_id, offer)
        self._free += 1
        if self._free == self.slots and self.on_idle is not None:
            self.on_idle()

    def _clear_trial(self, instance_id: InstanceId, offer: _Offer) -> None:
        if self._on_trial == (instance_id, offer):
            self._on_trial = None
