"""The verbs that ask something of one instance: pause, resume, cancel, retry."""

from collections.abc import Iterable
from typing import Final

import msgspec

from taskengine.clock import Clock, IdSource
from taskengine.engine.growing import batch
from taskengine.engine.looking import Looking
from taskengine.engine.payloads import checked_payload
from taskengine.engine.planner import Answer
from taskengine.engine.views import Commanded, commanded
from taskengine.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from taskengine.functions import Registry
from taskengine.functions.sub_tasks import sources
from taskengine.model.ids import CommandId, InstanceId
from taskengine.model.messages import Add, Cancel, Command, Pause, Resume, Retry, RetryScope, Signal
from taskengine.store.artifacts import Artifacts
from taskengine.store.interface import Store

__all__ = ["Commanding"]

ADDED_AT_ONCE: Final = 5_000
"""Tasks that somebody outside may add with one commit."""


class Commanding(Looking):
    """What an engine does to instances on request. All raise NotFound, Conflict, CommitFailed, Unavailable.

    `command_id` names a command of this instance: the same id again has the same answer and no second effect, also
    in a later run and after a restart.
    """

    def __init__(self, store: Store, artifacts: Artifacts, registry: Registry, clock: Clock, ids: IdSource) -> None:
        super().__init__(store, artifacts, registry, clock)
        self._ids = ids

    async def pause_instance(self, instance_id: str, *, now: bool = False, command_id: str | None = None) -> Commanded:
        """Nothing new starts. `now` also interrupts running attempts, which run again after the resume."""
        return await self._command(instance_id, Pause(self._command_id(instance_id, command_id), now))

    async def resume_instance(self, instance_id: str, *, command_id: str | None = None) -> Commanded:
        return await self._command(instance_id, Resume(self._command_id(instance_id, command_id)))

    async def cancel_instance(
        self, instance_id: str, reason: str = "", *, compensate: bool = False, command_id: str | None = None
    ) -> Commanded:
        """Ask it to end; it is Cancelled once everything that runs has ended.

        compensate  undo then what its tasks have done; it is Compensated, or CompensationFailed, in the end
        """
        clean = reason.encode(errors="replace").decode()  # a lone surrogate has no place in a row
        return await self._command(instance_id, Cancel(self._command_id(instance_id, command_id), clean, compensate))

    async def retry_instance(
        self,
        instance_id: str,
        *,
        from_task: str | None = None,
        only_task: str | None = None,
        command_id: str | None = None,
    ) -> Commanded:
        """Open a new run: what failed, or `from_task` and everything below, or `only_task`."""
        if from_task is not None and only_task is not None:
            raise Conflict("retry takes from_task or only_task, not both")
        scope, task = RetryScope.FAILED, ""
        if from_task is not None:
            scope, task = RetryScope.FROM, from_task
        elif only_task is not None:
            scope, task = RetryScope.ONLY, only_task
        return await self._command(instance_id, Retry(self._command_id(instance_id, command_id), scope, task))

    async def signal_instance(
        self, instance_id: str, name: str, payload: object = None, *, by: str = "", command_id: str | None = None
    ) -> Commanded:
        """Send a signal to a running instance: a task that waits for it goes on, else it is kept for the next one.

        payload  JSON-shaped, at most 64 KiB; the task's result. For an approval: `{"approved": True, "comment": "…"}`
        by       who sends it
        Raises InvalidInput, InvalidParams besides; NotFound also for a name that no task of its workflow waits for;
        TooManyRequests while 1,000 are kept.
        """
        waits = await self._reading.waits(InstanceId(instance_id))
        if name not in waits:
            known = ", ".join(sorted(waits)) or "none"
            raise NotFound("signal", name, f"the workflow waits for: {known}")
        body = checked_payload(waits[name], payload)
        message = Signal(self._command_id(instance_id, command_id), name, msgspec.Raw(body), by)
        answer = await self._deliver(InstanceId(instance_id), message)
        if answer.code == "too_many":
            raise TooManyRequests(answer.error, 1.0)
        if answer.error:
            raise Conflict(answer.error)
        return commanded(await self.get_instance(instance_id), changed=answer.changed)

    async def add_tasks(
        self, instance_id: str, tasks: Iterable[object], *, parent: str | None = None, command_id: str | None = None
    ) -> int:
        """Add tasks to a running instance: all of them or none. Gives how many are new.

        tasks   mappings as in a file, builders or what they build; at most 5,000, further ones with another call
        parent  the task whose sub-tasks they are, which has not ended; they start after its body. None: they stand
                beside the tasks of the definition, and may depend on any of those
        Raises InvalidInput besides.
        """
        batched = batch(sources(tasks))
        if len(batched) > ADDED_AT_ONCE:
            raise InvalidInput(
                f"{len(batched):,} tasks at once; at most {ADDED_AT_ONCE:,}, add the others with a further call"
            )
        ordinal = -1 if parent is None else (await self.get_task(instance_id, parent)).ordinal
        message = Add(self._command_id(instance_id, command_id), tuple(map(msgspec.Raw, batched.values())), ordinal)
        answer = await self._deliver(InstanceId(instance_id), message)
        if answer.error:
            raise InvalidInput(answer.error) if answer.code == "invalid" else Conflict(answer.error)
        return answer.added

    async def _command(self, instance_id: str, command: Command) -> Commanded:
        answer = await self._deliver(InstanceId(instance_id), command)
        if answer.error:
            raise Conflict(answer.error)
        return commanded(await self.get_instance(instance_id), changed=answer.changed)

    def _command_id(self, instance_id: str, given: str | None) -> CommandId:
        """Of the whole process, not only of the instance: answers are awaited by it."""
        return CommandId(self._ids.uuid7() if given is None else f"{instance_id}/{given}")

    async def _deliver(self, instance_id: InstanceId, command: Command | Add) -> Answer:
        """Hand it to the instance, wait for the commit of its answer."""
        raise NotImplementedError
