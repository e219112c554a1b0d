"""What an owner has to outlive: its children and its spawned tasks, and how they leave."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from taskengine.actors.ref import STOP, ActorRef

if TYPE_CHECKING:
    from taskengine.actors.dispatcher import Dispatcher

__all__ = ["Household", "Spawned"]


class Spawned:
    """A coroutine that runs as a task under an owner. Made by `Dispatcher.spawn`. For the loop's thread."""

    __slots__ = ("_coro", "_on_done", "dispatcher", "household", "task")

    def __init__(
        self,
        dispatcher: "Dispatcher",
        household: "Household",
        coro: Coroutine[Any, Any, Any],
        on_done: Callable[[Any], object] | None,
    ) -> None:
        self.dispatcher = dispatcher
        self.household: Household | None = household
        self.task: asyncio.Task[Any] | None = None
        self._coro = coro
        self._on_done = on_done

    @property
    def done(self) -> bool:
        """Whether the coroutine has ended."""
        return self.task is None

    def cancel(self) -> None:
        """Throw CancelledError into the coroutine at its next turn; twice or too late does no harm."""
        if self.task is not None:
            self.task.cancel()

    def abandon(self) -> None:
        """Let the owner leave without it: for a coroutine that swallows its cancellation.

        It stays referenced and its on_done still comes if it ever ends, but neither the owner's stop nor
        the dispatcher's waits for it. Counted as `actors.abandoned`.
        """
        household, self.household = self.household, None
        if household is not None:
            self.dispatcher.adopt_abandoned(self)
            household.forget_task(self)

    async def run(self) -> Any:
        """The body of the task: everything but a cancellation comes back as a value.

        asyncio would let SystemExit and KeyboardInterrupt fly through the loop and stop it.
        """
        try:
            return await self._coro
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            return _Raised(exc)

    def finish(self, task: "asyncio.Task[Any]") -> None:
        """The task's done callback: tell on_done, then the owner."""
        self._coro.close()  # cancelled before its first step it would warn that nobody awaited it
        self.task = None
        outcome: Any = asyncio.CancelledError() if task.cancelled() else task.result()
        failed = isinstance(outcome, _Raised)
        if isinstance(outcome, _Raised):
            outcome = outcome.error
        self.dispatcher.task_ended(self, self._on_done, outcome, failed)
        self._on_done = None
        household, self.household = self.household, None
        if household is not None:
            household.forget_task(self)


class _Raised:
    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Household:
    """Children in the order of their start, tasks, and the procedure of closing. For the loop's thread.

    It holds both strongly; together the households are the registry of everything alive.
    """

    __slots__ = ("_tasks_told", "_then", "_to_tell", "_told", "children", "closing", "tasks")

    def __init__(self) -> None:
        self.children: dict[ActorRef[Any], None] = {}
        self.tasks: set[Spawned] = set()
        self.closing = False
        self._to_tell: list[ActorRef[Any]] = []
        self._told: ActorRef[Any] | None = None
        self._tasks_told = False
        self._then: Callable[[], None] | None = None

    def close(self, *, ordered: bool, then: Callable[[], None]) -> None:
        """Stop the children, then cancel the tasks; call `then` once all are gone, at once if nobody is here.

        ordered  wait for each child before telling the next. Both ways the youngest is told first.
        """
        self.closing = True
        self._then = then
        # A copy, taken from the end: looking up the last key of a dict walks over all deleted ones behind it.
        self._to_tell = list(self.children)
        if not ordered:
            while self._to_tell:
                self._to_tell.pop().tell(STOP)
        self._step()

    def forget_child(self, child: ActorRef[Any]) -> None:
        """The child is gone."""
        self.children.pop(child, None)
        if self.closing:
            self._step()

    def forget_task(self, spawned: Spawned) -> None:
        """The task has ended, or was abandoned."""
        self.tasks.discard(spawned)
        if self.closing:
            self._step()

    def _step(self) -> None:
        if self._told in self.children:
            return
        while self._to_tell:
            self._told = self._to_tell.pop()
            if self._told in self.children:
                self._told.tell(STOP)
                return
        if self.children:
            return
        if self.tasks:
            self._cancel_tasks()
        elif self._then is not None:
            then, self._then = self._then, None
            then()

    def _cancel_tasks(self) -> None:
        if not self._tasks_told:
            self._tasks_told = True
            for spawned in list(self.tasks):
                spawned.cancel()
