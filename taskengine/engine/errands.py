"""What a running body asks of the engine: sub-tasks to add, how others have ended, a durable sleep."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from taskengine.actors import ActorRef
from taskengine.clock import Micros
from taskengine.engine.assignment import Assignment
from taskengine.engine.growing import batch
from taskengine.engine.offspring import sub_tasks
from taskengine.engine.planner import Answer
from taskengine.engine.staff import Staff
from taskengine.errors import Conflict, InvalidInput, Unavailable
from taskengine.functions.questions import AddSubTasks, Nap, Question, SubTasks
from taskengine.functions.sub_tasks import SubTask
from taskengine.model import messages
from taskengine.model.ids import CommandId
from taskengine.model.messages import Add

__all__ = ["Errands"]

ADDED_AT_ONCE: Final = 1_000
"""Sub-tasks that one commit takes in; more are several."""


class Errands:
    """Those of one attempt. Belongs to the loop's thread; what it runs is cancelled with the attempt's actor."""

    def __init__(self, staff: Staff, work: Assignment, instance: ActorRef[Any]) -> None:
        self._staff, self._work, self._instance = staff, work, instance
        self._added: dict[str, bytes] = {}

    async def run(self, question: Question) -> object:
        """Its answer, of JSON shape. Raises InvalidInput, Conflict, CommitFailed, StoreUnavailable, StoreCorrupt."""
        match question:
            case AddSubTasks():
                found = batch(question.tasks, self._added)
                fresh = await self.add(list(found.values()))
                self._added.update(found)
                return fresh
            case SubTasks():
                return await self._sub_tasks(question)
            case Nap():
                await self._nap(question)
                return None

    async def _nap(self, question: Nap) -> None:
        """A body that has run before, and did not fail, sleeps only for the rest."""
        work, clock = self._work, self._staff.ambient.clock
        kind = "nap" if work.undo is None else "undo-nap"
        command_id = CommandId(f"{work.instance_id}/{kind}/{work.ordinal}/{work.run}/{work.tries}/{question.call}")
        due_us = Micros(clock.now_us() + question.span_us)
        answer = await self._ask_instance(messages.Nap(command_id, work.ordinal, work.attempt, due_us))
        await clock.sleep(max(0, (answer.due_us or due_us) - clock.now_us()) / 1_000_000)

    async def _ask_instance(self, message: Add | messages.Nap) -> Answer:
        """Its answer, after the commit. Raises InvalidInput, Conflict, CommitFailed."""
        directory = self._staff.directory
        reply = directory.expect(message.id)
        try:
            self._instance.tell(message)
            answer = await reply
        finally:
            directory.answer(message.id, Unavailable("the attempt has ended"))  # nobody waits any more
        if answer.error:
            raise InvalidInput(answer.error) if answer.code == "invalid" else Conflict(answer.error)
        return answer

    async def _sub_tasks(self, question: SubTasks) -> list[SubTask]:
        work, staff = self._work, self._staff
        ordinal = work.ordinal if not question.task else work.before.get(question.task)
        if ordinal is None:
            known = ", ".join(map(repr, work.before)) or "none"
            raise InvalidInput(f"{question.task!r} is no task directly before this one; there are: {known}")
        return await sub_tasks(
            staff.store,
            staff.artifacts,
            work.instance_id,
            ordinal,
            after=question.after,
            limit=question.limit,
            results=question.results,
        )

    async def add(self, sources: Sequence[bytes]) -> int:
        """Committed slice by slice; gives how many are new. Raises InvalidInput, Conflict, CommitFailed."""
        fresh = 0
        for start in range(0, len(sources), ADDED_AT_ONCE):
            command_id = CommandId(self._staff.ambient.ids.uuid7())
            tasks = tuple(map(msgspec.Raw, sources[start : start + ADDED_AT_ONCE]))
            answer = await self._ask_instance(Add(command_id, tasks, self._work.ordinal, self._work.attempt))
            fresh += answer.added
        return fresh
