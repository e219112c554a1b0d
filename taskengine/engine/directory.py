"""Who is where: the instances in memory, and who waits for what from them. Belongs to the loop's thread."""

import asyncio
from collections import defaultdict
from typing import Any

from taskengine.actors import ActorRef
from taskengine.engine.planner import Answer
from taskengine.errors import Unavailable
from taskengine.model.ids import CommandId, InstanceId
from taskengine.model.progress import Progress
from taskengine.model.records import InstanceRow

__all__ = ["Directory", "Snapshot"]

Snapshot = tuple[InstanceRow, Progress]
"""An instance as a commit left it."""


class Directory:
    """Refs of live instances, replies that are awaited, and those who wait for an end.

    It is shared by the supervisor, which enters instances, and by the instances, which leave by themselves in the
    same turn of the loop in which they see that nothing waits for them.
    """

    def __init__(self) -> None:
        self._live: dict[InstanceId, ActorRef[Any]] = {}
        self._replies: dict[CommandId, asyncio.Future[Answer]] = {}
        self._waiters: defaultdict[InstanceId, set[asyncio.Future[Snapshot | None]]] = defaultdict(set)

    # -- instances in memory -----------------------------------------------------------------------------------

    def get(self, instance_id: InstanceId) -> ActorRef[Any] | None:
        return self._live.get(instance_id)

    def enter(self, instance_id: InstanceId, ref: ActorRef[Any]) -> None:
        self._live[instance_id] = ref

    def leave(self, instance_id: InstanceId) -> None:
        self._live.pop(instance_id, None)

    def __len__(self) -> int:
        return len(self._live)

    def refs(self) -> list[ActorRef[Any]]:
        return list(self._live.values())

    # -- replies -----------------------------------------------------------------------------------------------

    def expect(self, command_id: CommandId) -> asyncio.Future[Answer]:
        """The future of a command's answer. Whoever awaits it need not do more: a settled one is forgotten."""
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._replies[command_id] = reply
        return reply

    def answer(self, command_id: CommandId, answer: Answer | BaseException) -> None:
        """Nobody may be waiting any more, or not in this process."""
        reply = self._replies.pop(command_id, None)
        if reply is None or reply.done():
            return
        if isinstance(answer, BaseException):
            reply.set_exception(answer)
        else:
            reply.set_result(answer)

    # -- changes -----------------------------------------------------------------------------------------------

    def changed(self, instance_id: InstanceId) -> asyncio.Future[Snapshot | None]:
        """Settles when the instance's committed state is next worth looking at: an end, a hold, a rest.

        With what was committed, or None for "look at the store".
        """
        waiter: asyncio.Future[Snapshot | None] = asyncio.get_running_loop().create_future()
        self._waiters[instance_id].add(waiter)
        waiter.add_done_callback(lambda done: self._forget_waiter(instance_id, done))
        return waiter

    def notify(self, instance_id: InstanceId, snapshot: Snapshot | None = None) -> None:
        """Something worth looking at is committed."""
        for waiter in self._waiters.pop(instance_id, ()):
            if not waiter.done():
                waiter.set_result(snapshot)

    def close(self) -> None:
        """The engine stops: nobody will be answered any more."""
        stopped = Unavailable("the engine has stopped")
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(stopped)
        for waiters in list(self._waiters.values()):
            for waiter in list(waiters):
                if not waiter.done():
                    waiter.set_exception(stopped)
        self._replies.clear()
        self._waiters.clear()
        self._live.clear()

    def _forget_waiter(self, instance_id: InstanceId, waiter: asyncio.Future[Snapshot | None]) -> None:
        waiters = self._waiters.get(instance_id)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[instance_id]
