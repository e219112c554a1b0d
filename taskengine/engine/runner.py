"""Slots for bodies: a counter and a queue, round-robin over instances.

A fan-out of 10,000 is 10,000 small entries here and no actor; a task's actor starts when its slot is granted.
"""

from collections import deque

from taskengine.actors import AsyncActor
from taskengine.engine.directory import Directory
from taskengine.engine.mail import Closing, Forget, Offers, Released
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.messages import Granted

__all__ = ["Runner"]

_Offer = tuple[Ordinal, int]


class Runner(AsyncActor):
    """Grants at most `slots` bodies at a time. Instances take turns, each instance's offers go in their order.

    A slot is taken from the grant until its body has really ended, so that a body that would not stop does not make
    room for one more than allowed; not even when its instance has ended or was built anew.

    Attempts that are to be alone of their kind have a queue of their own, and one of them runs at a time, whatever
    its instance: so the one that ends the process is found out and not those that were running beside it.
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

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self.slots - self._free

    def on_receive(self, message: object) -> None:
        match message:
            case Offers():
                self._queue(message)
            case Released():
                self._release(message.instance_id, (message.ordinal, message.attempt))
            case Forget():
                self._forget(message.instance_id)
            case Closing():
                self._closing = True
            case _:
                super().on_receive(message)

    def on_idle(self) -> None:
        """Grant what is free, after everything that came in one burst has been heard."""
        while self._free and not self._closing:
            if self._alone and self._on_trial is None:
                instance_id, offer = self._alone.popleft()
                if self._grant(instance_id, offer):
                    self._on_trial = instance_id, offer
            elif self._turns:
                self._grant(*self._next())
            else:
                return

    def _next(self) -> tuple[InstanceId, _Offer]:
        instance_id = self._turns.popleft()
        queue = self._queues[instance_id]
        offer = queue.popleft()
        if queue:
            self._turns.append(instance_id)
        else:
            del self._queues[instance_id]
        return instance_id, offer

    def _queue(self, message: Offers) -> None:
        if message.alone:
            self._alone.extend((message.instance_id, offer) for offer in message.offers)
            return
        queue = self._queues.get(message.instance_id)
        if queue is None:
            queue = self._queues[message.instance_id] = deque()
            self._turns.append(message.instance_id)
        queue.extend(message.offers)

    def _grant(self, instance_id: InstanceId, offer: _Offer) -> bool:
        ref = self._directory.get(instance_id)
        if ref is None:
            return False  # its actor is gone; recovery offers anew
        self._free -= 1
        self._held.setdefault(instance_id, set()).add(offer)
        ref.tell(Granted(*offer))
        return True

    def _release(self, instance_id: InstanceId, offer: _Offer) -> None:
        held = self._held.get(instance_id)
        if held is None or offer not in held:
            return
        held.remove(offer)
        if not held:
            del self._held[instance_id]
        if self._on_trial == (instance_id, offer):
            self._on_trial = None
        self._free += 1

    def _forget(self, instance_id: InstanceId) -> None:
        if self._queues.pop(instance_id, None) is not None:
            self._turns.remove(instance_id)
        if self._alone:
            self._alone = deque(entry for entry in self._alone if entry[0] != instance_id)
        for offer in list(self._held.get(instance_id, ())):
            if (instance_id, *offer) not in self._directory.bodies:
                self._release(instance_id, offer)
