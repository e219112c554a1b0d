"""Who is where: the instances in memory, and who waits for what from them. Belongs to the loop's thread."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Self

from taskengine.actors import ActorRef
from taskengine.engine.planner import Answer
from taskengine.engine.sights import Sights, Snapshot
from taskengine.errors import Unavailable
from taskengine.model.ids import CommandId, InstanceId
from taskengine.model.states import Phase

__all__ = ["Directory", "Watch", "start_key"]


def start_key(instance_id: InstanceId) -> CommandId:
    """Under which the answer to a start is awaited."""
    return CommandId(f"start:{instance_id}")


class Directory:
    """Refs of live instances, replies that are awaited, and those who wait for an end.

    It is shared by the supervisor, which enters instances, and by the instances, which leave by themselves in the
    same turn of the loop in which they see that nothing waits for them.
    """

    def __init__(self) -> None:
        self._live: dict[InstanceId, ActorRef[Any]] = {}
        self._replies: dict[CommandId, asyncio.Future[Answer]] = {}
        self._copies: dict[CommandId, list[asyncio.Future[Answer]]] = {}
        self._watches: defaultdict[InstanceId, set[Watch]] = defaultdict(set)
        self.sights = Sights()
        self.coming: set[InstanceId] = set()
        """Instances that are being read from the store, or that come back after a failure of their actor."""
        self.leaving: set[InstanceId] = set()
        """Ended instances whose removal is being committed: they are not read any more."""
        self.bodies: set[tuple[InstanceId, int, int]] = set()
        """Instance, ordinal and attempt of every body that has begun and has not really ended."""

    # -- instances in memory -----------------------------------------------------------------------------------

    def get(self, instance_id: InstanceId) -> ActorRef[Any] | None:
        return self._live.get(instance_id)

    def enter(self, instance_id: InstanceId, ref: ActorRef[Any]) -> None:
        self._live[instance_id] = ref
        self.sights.enter(instance_id)

    def leave(self, instance_id: InstanceId) -> None:
        self._live.pop(instance_id, None)
        self.sights.leave(instance_id)

    def free(self, instance_ids: Iterable[InstanceId]) -> set[InstanceId]:
        """Those that nobody holds: not in memory, not on their way there, none of their bodies still runs."""
        held = {instance_id for instance_id, _, _ in self.bodies} | self.coming
        return {each for each in instance_ids if each not in self._live and each not in held}

    def __len__(self) -> int:
        return len(self._live)

    def refs(self) -> list[ActorRef[Any]]:
        return list(self._live.values())

    # -- replies -----------------------------------------------------------------------------------------------

    def expect(self, command_id: CommandId) -> asyncio.Future[Answer]:
        """The future of a command's answer. Whoever awaits it need not do more: a settled one is forgotten.

        Each who sends a copy of the same command has a future of his own, and all are answered by the first answer.
        """
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if command_id in self._replies:
            self._copies.setdefault(command_id, []).append(reply)
        else:
            self._replies[command_id] = reply
        return reply

    def awaits(self, command_id: CommandId) -> bool:
        """Whether nobody has answered it yet."""
        return command_id in self._replies

    def answer(self, command_id: CommandId, answer: Answer | BaseException) -> None:
        """Nobody may be waiting any more, or not in this process."""
        reply = self._replies.pop(command_id, None)
        if reply is None:
            return
        _settle(reply, answer)
        for copy in self._copies.pop(command_id, ()):
            _settle(copy, answer)

    # -- news --------------------------------------------------------------------------------------------------

    def watch(self, instance_id: InstanceId) -> "Watch":
        """News of one instance, from now on. Close it."""
        watch = Watch(self, instance_id)
        self._watches[instance_id].add(watch)
        return watch

    def unwatch(self, watch: "Watch") -> None:
        """For a watch that closes."""
        watches = self._watches.get(watch.instance_id)
        if watches is not None:
            watches.discard(watch)
            if not watches:
                del self._watches[watch.instance_id]

    def notify(self, instance_id: InstanceId, snapshot: Snapshot | None = None) -> None:
        """Something worth looking at is committed: an end, a hold, a new run; or the instance has left memory."""
        for watch in self._watches.get(instance_id, ()):
            watch.put(snapshot)

    def close(self) -> None:
        """The engine stops: nobody will be answered any more."""
        stopped = Unavailable("the engine has stopped")
        for command_id in list(self._replies):
            self.answer(command_id, stopped)
        for watches in self._watches.values():
            for watch in watches:
                watch.put(stopped)
        self._live.clear()
        self.sights.close()


class Watch:
    """The latest news of an instance, kept until somebody asks; what comes in between replaces it."""

    def __init__(self, directory: Directory, instance_id: InstanceId) -> None:
        self.instance_id = instance_id
        self._directory = directory
        self._news: Snapshot | Unavailable | None = None
        self._fresh = asyncio.Event()

    def put(self, news: Snapshot | Unavailable | None) -> None:
        """That it has left memory is no news after its end, which nobody has taken yet: the store need not be read."""
        if news is None and self._fresh.is_set() and isinstance(self._news, tuple) and self._news[0].phase is Phase.END:
            return
        self._news = news
        self._fresh.set()

    async def next(self) -> Snapshot | None:
        """What was committed last, or None for "look at the store"; waits for it. Raises Unavailable at the stop."""
        await self._fresh.wait()
        self._fresh.clear()
        if isinstance(self._news, Unavailable):
            raise self._news
        return self._news

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._directory.unwatch(self)


def _settle(reply: asyncio.Future[Answer], answer: Answer | BaseException) -> None:
    if reply.done():  # nobody waits any more
        return
    if isinstance(answer, BaseException):
        reply.set_exception(answer)
    else:
        reply.set_result(answer)
