"""The actor of one instance: decide, save, then tell.

A burst of messages becomes one decision. Memory has moved by then; effects leave when the decision's commit is
acknowledged, in the order of the decisions. If a commit fails for good the actor fails and its supervisor builds a
new one from the store.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from taskengine.actors import ActorRef, AsyncActor
from taskengine.bus import Bus
from taskengine.clock import Micros
from taskengine.engine.assignment import Assignment
from taskengine.engine.blueprint import Blueprint, Step, added_step, undo_step
from taskengine.engine.directory import start_key
from taskengine.engine.inputs import Given, Item
from taskengine.engine.mail import Committed, Deliver, Drain, Flush, GraceOver, Interrupted, Landed, Orphaned
from taskengine.engine.places import by_place, place_of
from taskengine.engine.planner import (
    Answer,
    Arm,
    ArmDeadline,
    Decline,
    Effect,
    Ended,
    Interrupt,
    Launch,
    Offer,
    Plan,
    Reply,
    StartChild,
    TellChild,
    decide,
)
from taskengine.engine.planner.task import Task
from taskengine.engine.results import Results
from taskengine.engine.sights import results_of
from taskengine.engine.staff import Staff
from taskengine.engine.tally import Tally
from taskengine.engine.task import TaskActor
from taskengine.errors import DuplicateKey, UnknownFunction
from taskengine.model.added import Added, decode_added
from taskengine.model.children import ChildOf
from taskengine.model.events import Event
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.messages import Continue, DeadlineDue, Granted, Recovered, Settled, Start, TaskDue
from taskengine.model.records import Decision, InstanceRow, Outcome
from taskengine.model.states import InstanceState, Phase

__all__ = ["InstanceActor"]

_ROWS_PER_DECISION: Final = 512
_PARAMS: Final = msgspec.json.Decoder(dict[str, Any])
_JSON: Final = msgspec.json.Decoder()
_AT_HAND: Final = 1_000
"""The results of so many sub-tasks are handed to a body that has not asked for them."""


class _Wake:
    """What a timer calls. There may be a million: a third of what a closure takes."""

    __slots__ = ("_instance_id", "_message", "_supervisor")

    def __init__(self, supervisor: ActorRef[Any], instance_id: InstanceId, message: TaskDue | DeadlineDue) -> None:
        self._supervisor, self._instance_id, self._message = supervisor, instance_id, message

    def __call__(self) -> None:
        self._supervisor.tell(Deliver(self._instance_id, self._message))


class InstanceActor(AsyncActor):
    """The only writer of its instance's rows. Its children are the actors of the attempts that run.

    first  the message that sets the plan going: Start, or Recovered after a load
    """

    def __init__(self, staff: Staff, supervisor: ActorRef[Any], blueprint: Blueprint, plan: Plan) -> None:
        self._staff = staff
        self._supervisor = supervisor
        self._blueprint = blueprint
        self._plan = plan
        self._id: InstanceId = plan.ledger.id
        self._given: Given | None = None
        self._results = Results(plan.ledger.cast, staff.settings.cache_result)
        self._bodies: dict[int, tuple[int, ActorRef[TaskActor]]] = {}
        self._flying: deque[tuple[Decision, list[Effect]]] = deque()
        self._dues: list[int] = []
        self._continuing = False
        self._unanswered = 0  # decisions of which the checkpointer has not said how they ended
        self._committed: InstanceRow | None = plan.ledger.row if plan.ledger.seq else None
        self._refused: DuplicateKey | None = None
        self._fresh = False
        self._recovering = False
        self._loaded = False
        self._tally = None if staff.counts is None else Tally(staff.counts, plan.ledger.cast)

    # -- messages ----------------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> None:
        if self._refused is not None:
            raise self._refused  # somebody wants something of an instance that will never be
        match message:
            case Committed():
                self._on_committed()
                return
            case Settled():
                self._on_settled(message)
            case Granted():
                if self._tally is not None:
                    place = place_of(self._plan.ledger.cast.specs[message.ordinal])
                    self._tally.granted(place, 1, self._staff.ambient.clock.now_us())
            case Continue():
                self._continuing = False
            case Start():
                self._fresh = True
                self._staff.ambient.probe.reach("start.before_commit")
            case Recovered():
                self._recovering = self._loaded = True
            case Drain():
                self._interrupt_all(GraceOver() if message.over else Interrupted())
                return
            case Flush():
                self._cut(lingering=True)
                return
            case TaskDue() | DeadlineDue():
                self._forget_past_dues()
            case DuplicateKey() if self._declined(message):
                return
            case BaseException():
                raise message
            case _:
                pass
        decide(self._plan, message, self._staff.ambient.clock.now_us())
        if self._plan.ledger.dirty_rows >= _ROWS_PER_DECISION:
            self._cut()

    def on_idle(self) -> None:
        """The burst is over: one decision for all of it, and perhaps the end of this actor."""
        if self._refused is not None:
            if self.leave():
                self._staff.directory.leave(self._id)
                self._staff.directory.answer(start_key(self._id), self._refused)
            return
        self._launch_granted()
        self._cut_if_urgent()
        if self._recovering and not self._flying:  # there was nothing to decide
            self._recovering = False
            self._staff.recovery.back(self._id)
        self._go_on()
        if not self._flying and not self._bodies and not self._continuing:
            self._rest()

    def _on_settled(self, message: Settled) -> None:
        body = self._bodies.get(message.ordinal)
        if body is None or body[0] != message.attempt:
            return  # late; the planner will drop it too
        del self._bodies[message.ordinal]
        if self._tally is not None:
            self._tally.attempt(message, self._staff.ambient.clock.now_us())
        if message.outcome is Outcome.OK and not self._plan.ledger.tasks[message.ordinal].undoing:
            self._results.keep(message.ordinal, message.result)
            self._staff.ambient.probe.reach("settle.before_commit")

    # -- decide, save ------------------------------------------------------------------------------------------

    def _cut(self, *, lingering: bool = False) -> None:
        decision, effects = self._plan.cut(self._staff.ambient.clock.now_us(), lingering=lingering)
        if decision is not None:
            self._flying.append((decision, effects))
            self._unanswered += 1
            if self._plan.ledger.at_end:
                self._staff.logbook.flush(self._id)
            self._staff.checkpointer.save(decision, self._acknowledge)
        elif effects:
            self._perform_after_last(effects)

    def _cut_if_urgent(self) -> None:
        """Dispatches alone are not worth a commit: most bodies end before a row of theirs would be written.

        One that takes longer gets its Running row a moment later, for whoever watches, and so that a crash is laid
        at its door.
        """
        ledger = self._plan.ledger
        if ledger.urgent or self._plan.effects:
            self._cut()
        if ledger.lingering:
            self._staff.linger.add(self.actor_ref)

    def _launch_granted(self) -> None:
        for launch in self._plan.take_launches():
            self._staff.ambient.probe.reach("grant.accepted")
            self._launch(launch)

    def _go_on(self) -> None:
        if self._plan.unfinished_business and not self._continuing:
            self._continuing = True
            self.actor_ref.tell(Continue())

    def _perform_after_last(self, effects: list[Effect]) -> None:
        """Effects without rows keep their place behind the decisions that are on their way."""
        if self._flying:
            self._flying[-1][1].extend(effects)
        else:
            self._perform(effects)

    def _acknowledge(self, error: BaseException | None) -> None:
        """Called by the checkpointer, in the order of the saves; also when this actor has failed meanwhile."""
        self._unanswered -= 1
        if self.actor_ref.is_alive():
            self.actor_ref.tell(Committed() if error is None else error)
        else:
            self._staff.directory.sights.forget(self._id)
            self._supervisor.tell(Landed(self._id))

    def _declined(self, error: DuplicateKey) -> bool:
        """Another start had the same key: an answer, and no failure, if the start is all that this actor had to do."""
        if not self._fresh or len(self._flying) != 1 or any(isinstance(it, Reply) for it in self._flying[0][1]):
            return False
        self._flying.clear()
        self._refused = error
        return True

    def on_failure(self, *_exc_info: Any) -> None:
        """Who builds it anew has to wait for what is still on its way to the store."""
        self._staff.directory.sights.forget(self._id)
        if self._unanswered:
            self._supervisor.tell(Orphaned(self._id, self._unanswered))

    # -- then tell ---------------------------------------------------------------------------------------------

    def _on_committed(self) -> None:
        decision, effects = self._flying.popleft()
        self._show(decision)
        if self._fresh:
            self._fresh = False
            if self._tally is not None:
                self._tally.started()
            self._staff.directory.answer(start_key(self._id), Answer(state=self._plan.ledger.state))
        recovered, self._recovering = self._recovering, False
        if recovered:
            self._staff.ambient.probe.reach("recovery.committed")
        self._perform(effects)
        if self._tally is not None:
            self._tally.moved(decision.event.body.transitions)
        if recovered:
            self._staff.recovery.back(self._id)
        bus: Bus = self._staff.bus
        if bus.listened:
            row = decision.event
            workflow_id = self._blueprint.definition.id
            bus.publish(
                Event(instance_id=self._id, workflow_id=workflow_id, seq=row.seq, at_us=row.at_us, body=row.body)
            )
        if decision.instance is not None:
            self._staff.directory.notify(self._id, (decision.instance.row, decision.event.body.progress))

    def _show(self, decision: Decision) -> None:
        """Before anybody hears of the commit: whoever hears and looks must see it."""
        if decision.instance is not None:
            self._committed = decision.instance.row
        row = self._committed
        if row is not None:
            results = results_of(decision, self._blueprint.leaves) if row.phase is Phase.END else None
            self._staff.directory.sights.publish(row, decision.event.body.progress, results)

    def _perform(self, effects: list[Effect]) -> None:
        offers: list[tuple[Ordinal, int]] = []
        alone: list[tuple[Ordinal, int]] = []
        for effect in effects:
            match effect:
                case Offer():
                    (alone if effect.alone else offers).append((effect.ordinal, effect.attempt))
                case Launch():
                    self._launch(effect)
                case Decline():
                    self._staff.runner.decline(self._id, effect.ordinal, effect.attempt)
                case Interrupt():
                    self._interrupt(effect)
                case Arm():
                    self._arm(effect.due_us, TaskDue(effect.ordinal, effect.attempt))
                case ArmDeadline():
                    self._arm(effect.due_us, DeadlineDue(effect.run))
                case StartChild():
                    self._staff.children.start(ChildOf(self._id, effect.ordinal, effect.attempt))
                case TellChild():
                    self._staff.children.tell(ChildOf(self._id, effect.ordinal, effect.attempt), effect)
                case Reply():
                    self._staff.directory.answer(effect.command_id, effect.answer)
                case Ended():
                    self._staff.children.ended(self._plan.ledger.row)
                    self._count_end(effect.state)
        if offers:
            self._ask_for_slots(offers)
        if alone:
            self._ask_for_slots(alone, alone=True)

    def _ask_for_slots(self, offers: list[tuple[Ordinal, int]], *, alone: bool = False) -> None:
        now_us = self._staff.ambient.clock.now_us()
        for place, some in by_place(offers, self._plan.ledger.cast.specs):
            granted = self._staff.runner.request(self._id, some, place, alone=alone)
            if self._tally is not None:
                self._tally.asked(place, 0 if alone else len(some), len(granted), now_us)
            for ordinal, attempt in granted:
                decide(self._plan, Granted(ordinal, attempt), now_us)

    def _launch(self, effect: Launch) -> None:
        work = self._assignment(effect.ordinal, effect.attempt)
        ref = self.dispatcher.start_now(TaskActor, self._staff, work, parent=self.actor_ref)
        self._bodies[effect.ordinal] = (effect.attempt, ref)

    def _assignment(self, ordinal: Ordinal, attempt: int) -> Assignment:
        cast = self._plan.ledger.cast
        added = decode_added(cast.sources[ordinal]) if ordinal >= cast.defined else None
        task = self._plan.ledger.tasks[ordinal]
        step = self._step(task, added)
        work = Assignment(
            instance_id=self._id,
            ordinal=ordinal,
            attempt=attempt,
            run=self._plan.ledger.run,
            step=step,
            given=self._facts(),
            name=cast.names[ordinal],
            tries=task.tries,
        )
        # An item of a `for_each` comes after what its parent comes after.
        needs = cast.dependencies[task.parent if added is not None and added.task is None else ordinal]
        direct = self._direct(ordinal, needs)
        if step.fixed and not direct and not task.undoing and added is None and not cast.families:
            return work  # the many that need nothing
        work = msgspec.structs.replace(
            work,
            item=None if added is None or added.task is not None else Item(added.index, _JSON.decode(added.item)),
            undo=self._plan.ledger.error if task.undoing else None,
            before={cast.short_name(o): o for o in needs} if direct or cast.families else {},
        )
        if step.fixed and not direct and not task.undoing:
            return work
        return self._with_inputs(work, direct)

    def _with_inputs(self, work: Assignment, direct: frozenset[int]) -> Assignment:
        """What its expressions name and its body may want, or where to read it."""
        step, undoing = work.step, work.undo is not None
        ordinals, tasks, cast = self._blueprint.shape.ordinals, self._plan.ledger.tasks, self._plan.ledger.cast
        results = {ordinals[each] for each in step.results} | direct
        errors = {ordinals[each] for each in step.errors}
        mentioned = {ordinals[each] for each in step.mentions}
        at_hand = self._results.take(results)
        gathers = {o: tuple(cast.members(o)) for o in results if cast.specs[o].for_each is not msgspec.UNSET}
        # Only a success has a result; what is neither at hand nor known to be empty has to be read.
        missing = {o for o in results if o not in at_hand and (undoing or self._results.maybe_stored(o, tasks[o]))}
        return msgspec.structs.replace(
            work,
            statuses={cast.names[o]: tasks[o].state.value for o in mentioned},
            results=at_hand,
            missing_results=frozenset(missing | gathers.keys() | ({work.ordinal} if undoing else set())),
            missing_errors=frozenset(errors),
            names={o: cast.short_name(o) for o in results | errors | mentioned},
            direct=direct,
            gathers=gathers,
        )

    def _step(self, task: Task, added: Added | None) -> Step:
        spec = self._plan.ledger.cast.specs[task.ordinal]
        if task.undoing:
            return undo_step(spec, is_data=added is not None and added.task is not None)
        if added is None:
            return self._blueprint.step(Ordinal(task.ordinal))
        return self._blueprint.item_step(task.parent) if added.task is None else added_step(spec)

    def _direct(self, ordinal: Ordinal, needs: Sequence[int]) -> frozenset[int]:
        """Of what it depends on, that whose result the body may want besides what expressions name."""
        cast = self._plan.ledger.cast
        spec = cast.specs[ordinal]
        if not needs or spec.for_each is not msgspec.UNSET:  # what only spreads has no body
            return frozenset()
        if spec.result_mapping or spec.required_params or self._takes_context(spec.job):
            return frozenset(o for o in needs if len(cast.members(o)) <= _AT_HAND)
        return frozenset()

    def _takes_context(self, job: str) -> bool:
        try:
            return self._staff.registry.get(job).binder.takes_context
        except UnknownFunction:
            return False  # the attempt will say so

    def _facts(self) -> Given:
        if self._given is None:
            ledger = self._plan.ledger
            self._given = Given(
                self._id,
                self._blueprint.definition.id,
                _PARAMS.decode(ledger.row.params),
                Given.time_text(ledger.started_us),
                fresh=not self._loaded,
            )
        return self._given

    def _interrupt(self, effect: Interrupt) -> None:
        body = self._bodies.get(effect.ordinal)
        if body is not None and body[0] == effect.attempt:
            body[1].tell(Interrupted())

    def _interrupt_all(self, message: Interrupted | GraceOver) -> None:
        for _, ref in self._bodies.values():
            ref.tell(message)

    def _arm(self, due_us: int, message: TaskDue | DeadlineDue) -> None:
        """Timers live outside: they bring this instance back into memory when it has left."""
        heapq.heappush(self._dues, due_us)
        self._staff.timers.at(Micros(due_us), _Wake(self._supervisor, self._id, message))

    def _count_end(self, state: InstanceState) -> None:
        if self._tally is not None:
            ledger = self._plan.ledger
            self._tally.ended(state, ledger.started_us, ledger.finished_us)

    # -- leaving memory ----------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Nothing runs and nothing is on its way: at the end, or with only a far timer or a hold, leave memory."""
        ledger = self._plan.ledger
        if not ledger.at_end and not (self._plan.resting and (ledger.held or self._far_from_due())):
            return
        if self.leave():
            self._staff.directory.leave(self._id)
            self._staff.directory.notify(self._id)

    def _forget_past_dues(self) -> None:
        """One of them has come; others that are past are on their way, and bring the instance back if they must."""
        now_us = self._staff.ambient.clock.now_us()
        while self._dues and self._dues[0] <= now_us:
            heapq.heappop(self._dues)

    def _far_from_due(self) -> bool:
        now_us = self._staff.ambient.clock.now_us()
        return not self._dues or self._dues[0] > now_us + self._staff.settings.unload_after_s * 1_000_000
