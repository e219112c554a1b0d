"""Instances that tasks of other instances wait for: their start, what their parents tell them, word of their end.

Nothing of it is durable here. A parent's task that waits for its child is a row, the child is an instance like any
other, and both say whose they are (`model/children.py`); after a crash the parent asks again for each child that it
waits for, and what has happened is found out then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec

from taskengine.actors import ActorRef
from taskengine.ambient import Ambient
from taskengine.engine.directory import Directory, start_key
from taskengine.engine.library import Library
from taskengine.engine.mail import Deliver, LaunchNew
from taskengine.engine.planner import ChildOrder, TellChild
from taskengine.engine.reading import Reading
from taskengine.errors import (
    CommitFailed,
    Conflict,
    DuplicateKey,
    InvalidInput,
    NotFound,
    StoreUnavailable,
    TaskEngineError,
    Unavailable,
)
from taskengine.model.artifacts import reference
from taskengine.model.children import MOST_LEVELS, ChildOf, ChildRequest, parent_of
from taskengine.model.ids import CommandId, InstanceId, WorkflowId
from taskengine.model.messages import Cancel, ChildSettled, Continue, InstanceMessage, Pause, Resume
from taskengine.model.params import bind_params
from taskengine.model.records import InstanceRow, Outcome, TaskFailure
from taskengine.model.states import InstanceState, Phase
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import Store

__all__ = ["Children"]

_AGAIN_S: Final = 1.0
_JSON: Final = msgspec.json.Encoder(order="sorted")
_REQUEST: Final = msgspec.json.Decoder(ChildRequest)
_KIND: Final = "ChildFailed"
_BOTTOM: Final = "; at the bottom: "
_PASSING: Final = (CommitFailed, Unavailable, StoreUnavailable)
"""What a later try may not meet with."""


class Children:
    """Belongs to the loop's thread. What concerns one child is done in the order in which it was asked for.

    spawn  runs a coroutine as a task of its own
    """

    def __init__(
        self,
        ambient: Ambient,
        store: Store,
        artifacts: Artifacts,
        directory: Directory,
        library: Library,
        reading: Reading,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        *,
        inline_result: int,
    ) -> None:
        self._ambient, self._store, self._artifacts = ambient, store, artifacts
        self._directory, self._library, self._reading = directory, library, reading
        self._spawn, self._inline_result = spawn, inline_result
        self._supervisor: ActorRef[Any] | None = None
        self._last: dict[InstanceId, asyncio.Event] = {}  # set when the last thing asked of a child is done

    def serve(self, supervisor: ActorRef[Any]) -> None:
        """Instances are reached through it from now on."""
        self._supervisor = supervisor

    # -- what instances ask for --------------------------------------------------------------------------------

    def start(self, link: ChildOf) -> None:
        """See that the child is there and goes on, or that its parent hears of its end."""
        self._in_turn(link, self._start)

    def tell(self, link: ChildOf, told: TellChild) -> None:
        """Pass it on. A cancelled child that is not there has ended with that."""
        self._in_turn(link, lambda link: self._tell(link, told))

    def ended(self, row: InstanceRow) -> None:
        """The end of an instance is committed; its parent hears of it, if it has one."""
        link = parent_of(row.idempotency_key)
        if link is not None and link.child == row.id:
            self._in_turn(link, self._report)

    def _in_turn(self, link: ChildOf, act: Callable[[ChildOf], Awaitable[None]]) -> None:
        before, done = self._last.get(link.child), asyncio.Event()
        self._last[link.child] = done
        try:
            self._spawn(self._act(link, act, before, done))
        except Unavailable:  # the engine is stopping; the next one finds out
            del self._last[link.child]

    async def _act(
        self,
        link: ChildOf,
        act: Callable[[ChildOf], Awaitable[None]],
        before: asyncio.Event | None,
        done: asyncio.Event,
    ) -> None:
        """Tried until it is done: a parent that waits must hear of its child. It ends with the engine."""
        try:
            if before is not None:
                await before.wait()
            while True:
                try:
                    await act(link)
                    return
                except _PASSING as error:
                    self._ambient.log.warning("child.again", parent=link.parent, child=link.child, exc=error)
                    await self._ambient.clock.sleep(_AGAIN_S)
                except TaskEngineError as error:
                    self._ambient.log.error("child.given_up", exc=error, parent=link.parent, child=link.child)
                    self._settle(link, Outcome.FAIL, error=_given_up(error))
                    return
        finally:
            done.set()
            if self._last.get(link.child) is done:
                del self._last[link.child]

    # -- the start ---------------------------------------------------------------------------------------------

    async def _start(self, link: ChildOf) -> None:
        row = await self._store.instance(link.child)
        if row is None:
            try:
                await self._launch(link)
            except (InvalidInput, NotFound) as error:
                self._settle(link, Outcome.FAIL, error=_not_started(error))
        elif row.phase is Phase.END:
            await self._report(link)
        elif self._directory.get(link.child) is None:
            self._deliver(link.child, Continue())  # this engine may not have taken it up

    async def _launch(self, link: ChildOf) -> None:
        """Raises NotFound, InvalidParams, InvalidInput, and what passes."""
        found = await self._store.results(link.parent, [link.ordinal])
        if link.ordinal not in found:
            return  # the parent has been removed, or goes other ways
        request = _REQUEST.decode(found[link.ordinal])
        await self._check_line(link.parent, request.workflow)
        blueprint = await self._library.find(WorkflowId(request.workflow))
        row = InstanceRow(
            id=link.child,
            workflow_id=blueprint.definition.id,
            version=blueprint.shape.version,
            params=_JSON.encode(bind_params(blueprint.definition.params, request.params)),
            created_us=self._ambient.clock.now_us(),
            idempotency_key=link.key,
        )
        assert self._supervisor is not None, "nothing runs before the supervisor does"
        reply = self._directory.expect(start_key(row.id))
        self._supervisor.tell(LaunchNew(row))
        try:
            await reply
        except Conflict as error:
            if await self._store.instance(link.child) is not None:
                return  # an earlier try has come through
            if isinstance(error, DuplicateKey):
                raise  # somebody else's start has its key
            raise Unavailable(f"the child is on its way: {error}") from error

    async def _check_line(self, parent: InstanceId, workflow: str) -> None:
        """No workflow may run below itself, and not too many below each other. Raises InvalidInput."""
        line: list[str] = []
        above: InstanceId | None = parent
        while above is not None:
            row = await self._store.instance(above)
            if row is None:
                break
            line.append(row.workflow_id)
            if len(line) > MOST_LEVELS:
                raise InvalidInput(f"{MOST_LEVELS} workflows run below each other already: {_arrows(line, workflow)}")
            link = parent_of(row.idempotency_key)
            above = None if link is None else link.parent
        if workflow in line:
            raise InvalidInput(f"workflow {workflow!r} would run below itself: {_arrows(line, workflow)}")

    # -- while it runs -----------------------------------------------------------------------------------------

    async def _tell(self, link: ChildOf, told: TellChild) -> None:
        row = await self._store.instance(link.child)
        if row is not None and row.phase is not Phase.END:
            command = self._command(told)
            reply = self._directory.expect(command.id)
            self._deliver(link.child, command)
            await reply  # what it refuses it does not need: it ends by itself
        elif told.order is not ChildOrder.CANCEL:
            return
        elif row is None:
            self._settle(link, Outcome.INTERRUPTED, error=_failed("it was cancelled before it began"))
        else:
            await self._report(link)

    def _command(self, told: TellChild) -> Cancel | Pause | Resume:
        command_id = CommandId(self._ambient.ids.uuid7())
        match told.order:
            case ChildOrder.CANCEL:
                return Cancel(command_id, told.reason or "its parent was cancelled", told.compensate)
            case ChildOrder.RESUME:
                return Resume(command_id)
            case ChildOrder.PAUSE | ChildOrder.PAUSE_NOW:
                return Pause(command_id, told.order is ChildOrder.PAUSE_NOW)

    # -- its end -----------------------------------------------------------------------------------------------

    async def _report(self, link: ChildOf) -> None:
        row = await self._store.instance(link.child)
        if row is None:
            self._settle(link, Outcome.FAIL, error=_failed(f"instance {link.child} is gone"))
        elif row.final is InstanceState.SUCCESS:
            result = _JSON.encode(await self._reading.result(row.id, row.version))
            if len(result) > self._inline_result:
                result = reference(await self._artifacts.put(result))
            self._settle(link, Outcome.OK, result=result)
        elif row.phase is Phase.END:
            outcome = Outcome.INTERRUPTED if row.final is InstanceState.CANCELLED else Outcome.FAIL
            text = f"instance {row.id} of workflow {row.workflow_id!r} ended {row.final}{_cause(row.error)}"
            self._settle(link, outcome, error=_failed(text))

    def _settle(
        self, link: ChildOf, outcome: Outcome, *, result: bytes | None = None, error: TaskFailure | None = None
    ) -> None:
        self._deliver(link.parent, ChildSettled(link.ordinal, link.attempt, link.child, outcome, result, error))

    def _deliver(self, instance_id: InstanceId, message: InstanceMessage) -> None:
        if self._supervisor is not None and self._supervisor.is_alive():
            self._supervisor.tell(Deliver(instance_id, message))


def _failed(message: str) -> TaskFailure:
    return TaskFailure(type=_KIND, message=message)


def _cause(error: str) -> str:
    """Of a line of children that failed because of each other, only the last one matters."""
    if not error:
        return ""
    _, nested, below = error.partition(f"{_KIND}: ")
    if not nested:
        return f": {error}"
    return f"{_BOTTOM}{below.rpartition(_BOTTOM)[2]}"


def _given_up(error: TaskEngineError) -> TaskFailure:
    """Its rows or its result cannot be read, or somebody else has its id or its key."""
    return TaskFailure(type=type(error).__name__, message=f"the child: {error}", retryable=False)


def _not_started(error: TaskEngineError) -> TaskFailure:
    """Trying the same again would come to the same."""
    hint = "; `taskengine workflow upload FILE`, or `--with FILE` of a run" if isinstance(error, NotFound) else ""
    return TaskFailure(type=type(error).__name__, message=f"the child cannot start: {error}{hint}", retryable=False)


def _arrows(line: list[str], workflow: str) -> str:
    return " → ".join([*reversed(line), workflow])
