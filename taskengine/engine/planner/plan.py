"""The mechanism of the planner: agenda, triggers, offers, sweeps and the end of one instance. Pure.

A cascade does not recurse: ended tasks go on an agenda, each message works off a bounded part of it (`work`), and
`unfinished_business` tells the caller to come back. What a message means is decided in `decision.py`; it makes moves
through the methods here.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from taskengine.clock import Micros
from taskengine.engine.planner.cast import TOP, Family
from taskengine.engine.planner.effects import (
    Arm,
    ArmDeadline,
    ChildOrder,
    Effect,
    Ended,
    Interrupt,
    Launch,
    Offer,
    TellChild,
)
from taskengine.engine.planner.inbox import Inbox
from taskengine.engine.planner.ledger import Ledger
from taskengine.engine.planner.saga import Saga
from taskengine.engine.planner.shape import Shape
from taskengine.engine.planner.task import Task, reason_of
from taskengine.engine.planner.trigger import TriggerVerdict, judge
from taskengine.model.definition import OnFailure
from taskengine.model.ids import Ordinal
from taskengine.model.records import CommandRow, Decision, InstanceRow, TaskFailure, TaskRow, Verdict
from taskengine.model.states import (
    TASK_BAD,
    InstanceState,
    Phase,
    PhaseMove,
    TaskMove,
    TaskState,
)

__all__ = ["Plan"]

_FINAL_BY_VERDICT = {
    Verdict.SUCCESS: InstanceState.SUCCESS,
    Verdict.FAILED: InstanceState.FAILED,
    Verdict.TIMED_OUT: InstanceState.TIMED_OUT,
    Verdict.CANCELLED: InstanceState.CANCELLED,
}


_END_WITH_PARENT = {TaskState.CANCELLED: TaskMove.CANCEL, TaskState.SKIPPED: TaskMove.TRIGGER_SKIP}
_ROUNDING = 1e-9


class Plan:
    """One instance's planner.

    agenda_limit     steps (dependents looked at, tasks swept or offered) that one message may take
    max_recoveries   unclean ends in a row after which a task is taken for the culprit; 0: never
    stale            messages that came too late and were dropped
    """

    def __init__(self, ledger: Ledger, *, agenda_limit: int = 256, max_recoveries: int = 5) -> None:
        self.ledger = ledger
        self.max_recoveries = max_recoveries
        self.stale = 0
        self.effects: list[Effect] = []
        self.launches: list[Launch] = []
        self._agenda_limit = agenda_limit
        self._settled: deque[tuple[Task, int]] = deque()  # and the position among its dependents
        self._sweep: deque[int] = deque()
        self._ready: list[int] = []
        self._suspects: deque[int] = deque()
        self._suspects_active = 0
        self.one_suspect_at_a_time = False
        self.inbox = Inbox()
        self.saga = Saga(ledger)

    @classmethod
    def new(
        cls,
        shape: Shape,
        row: InstanceRow,
        taken: Iterable[TaskRow] = (),
        *,
        agenda_limit: int = 256,
        max_recoveries: int = 5,
    ) -> "Plan":
        """The plan of an instance that has no row yet; its first message is `Start`.

        taken  tasks that another instance has done for it: their rows become its own, with its first decision
        """
        ledger = Ledger(shape, row)
        ledger.take_over(taken)
        return cls(ledger, agenda_limit=agenda_limit, max_recoveries=max_recoveries)

    @classmethod
    def load(
        cls,
        shape: Shape,
        row: InstanceRow,
        tasks: Iterable[TaskRow],
        commands: Iterable[CommandRow] = (),
        *,
        last_seq: int,
        agenda_limit: int = 256,
        max_recoveries: int = 5,
    ) -> "Plan":
        """The plan of an instance as the store has it; its first message is `Recovered`."""
        ledger = Ledger(shape, row, last_seq=last_seq)
        commands = list(commands)
        ledger.restore(tasks, commands)
        plan = cls(ledger, agenda_limit=agenda_limit, max_recoveries=max_recoveries)
        plan.inbox.read(commands, ledger.tasks)
        return plan

    # -- what the actor asks ------------------------------------------------------------------------------------

    def take_launches(self) -> list[Launch]:
        """Attempts that may start before anything else is saved: their offers are committed."""
        launches, self.launches = self.launches, []
        return launches

    def cut(self, now_us: Micros, *, lingering: bool = False) -> tuple[Decision | None, list[Effect]]:
        """All that was decided since the last cut, and the effects that wait for it, in their order.

        Dispatches that linger in the ledger are left for a later cut unless `lingering` asks for them.
        """
        effects, self.effects = self.effects, []
        return self.ledger.cut(now_us, lingering=lingering), effects

    @property
    def unfinished_business(self) -> bool:
        """There is more to decide without any new message: send `Continue`."""
        if self._settled or self._sweep:
            return True
        return bool(self._ready or self._suspects) and (bool(self._ready and self._may_offer()) or self._next_suspect())

    @property
    def resting(self) -> bool:
        """Nothing runs, is offered, or could be: only a timer or a command can change something."""
        return not self.ledger.active and not self.unfinished_business and not self.ledger.at_end

    # -- what the other modules of the planner call ------------------------------------------------------------

    def set_deadline(self, now_us: Micros) -> None:
        """A new run's timeout begins."""
        timeout_us = self.ledger.shape.timeout_us
        self.ledger.deadline_us = None if timeout_us is None else Micros(now_us + timeout_us)
        self.ledger.deadline_left_us = None
        self.arm_deadline()

    def arm_deadline(self) -> None:
        if self.ledger.deadline_us is not None:
            self.effects.append(ArmDeadline(self.ledger.run, self.ledger.deadline_us))

    def arm(self, task: Task) -> None:
        assert task.due_us is not None, "only a task with a due time is armed"
        self.effects.append(Arm(Ordinal(task.ordinal), task.attempt, task.due_us))

    def enter_cancel(self, move: PhaseMove, now_us: Micros) -> None:
        """Nothing starts any more; what waits is cancelled, what runs is interrupted. Lifts a pause."""
        ledger = self.ledger
        ledger.lift()
        ledger.step(move)
        self.sweep_all()

    def sweep(self, ordinals: Iterable[int]) -> None:
        """Look at these tasks again, within the agenda's limit; what was still to be looked at before is forgotten."""
        self._sweep = deque(ordinals)

    def sweep_all(self) -> None:
        self.sweep(range(len(self.ledger.tasks)))

    def look_soon(self, ordinals: Iterable[int]) -> None:
        """Look at these, too."""
        self._sweep.extend(ordinals)

    def interrupt(self, task: Task) -> None:
        self.effects.append(Interrupt(Ordinal(task.ordinal), task.attempt))

    def tell_child(self, task: Task, order: ChildOrder) -> None:
        """The child that it waits for hears it after the commit."""
        ledger = self.ledger
        compensate = order is ChildOrder.CANCEL and ledger.compensate_asked
        self.effects.append(TellChild(Ordinal(task.ordinal), task.attempt, order, ledger.error, compensate))

    def tell_children(self, order: ChildOrder) -> None:
        for task in self.ledger.tasks:
            if task.awaits_child:
                self.tell_child(task, order)

    def settle(self, task: Task, now_us: Micros) -> None:
        """A task has made its move into a final state: its dependents hear of it, and perhaps the instance."""
        task.queued = False
        cast = self.ledger.cast
        if cast.dependents[task.ordinal]:
            self._settled.append((task, 0))
        if task.parent != TOP:
            self.close_if_done(self.ledger.tasks[task.parent], now_us)
        elif task.state in (TaskState.FAILED, TaskState.TIMED_OUT):
            self._on_failure(task)
        if task.ordinal in cast.families and cast.families[task.ordinal].open:
            self.look_soon(cast.members(task.ordinal))  # its body will not come to its sub-tasks any more

    def fail(self, task: Task, move: TaskMove, failure: TaskFailure | None, now_us: Micros) -> None:
        """It makes this move into a state that counts as bad, and keeps why."""
        task.keep_error(failure)
        self.ledger.move(task, move, now_us, reason_of(failure))
        self.settle(task, now_us)

    def cancel(self, task: Task, now_us: Micros) -> None:
        """It ends because the instance does."""
        self.ledger.move(task, TaskMove.CANCEL, now_us, "stopped" if self.ledger.phase is Phase.DRAIN else "cancelled")
        self.settle(task, now_us)

    def leave_slot(self, task: Task) -> None:
        """The attempt has ended: its slot is free."""
        task.slot = False
        self._leave_place(task)
        self._forget_suspect(task)
        task.losses = 0
        task.suspect = False

    def may_begin(self, task: Task) -> bool:
        """Whether the phase lets this task start (again)."""
        phase = self.ledger.phase
        if phase is Phase.RUN:
            return True
        if phase is Phase.DRAIN:
            return self.ledger.cast.cleanup[task.ordinal] or (task.begun and not self.ledger.hard)
        return False

    def make_eligible(self, task: Task, now_us: Micros) -> None:
        """Its dependencies say go: queue it for an offer, or stop it when the phase no longer lets it start."""
        if self.may_begin(task):
            self.queue(task)
        else:
            stop = TaskMove.STOP if self.ledger.phase is Phase.DRAIN and not task.begun else TaskMove.CANCEL
            self.ledger.move(task, stop, now_us, "stopped" if self.ledger.phase is Phase.DRAIN else "cancelled")
            self.settle(task, now_us)

    def queue(self, task: Task) -> None:
        if task.queued:
            return
        task.queued = True
        if task.losses and self.one_suspect_at_a_time:
            self._suspects.append(task.ordinal)
        else:
            heappush(self._ready, task.ordinal)

    def acquit(self) -> None:
        """A user has released the instance: nobody is started alone any more."""
        self.one_suspect_at_a_time = False
        self._suspects_active = 0
        while self._suspects:
            heappush(self._ready, self._suspects.popleft())

    def drop_queues(self) -> None:
        """Forget who is queued, as a new run does; every open task is judged again."""
        self._ready.clear()
        self._suspects.clear()
        self._suspects_active = 0
        self._settled.clear()
        self._sweep.clear()
        for task in self.ledger.tasks:
            task.queued = False
        for family in self.ledger.cast.families.values():
            family.held.clear()
        self.saga.forget()

    # -- the agenda --------------------------------------------------------------------------------------------

    def work(self, now_us: Micros) -> None:
        """Do a bounded part of what is on the agenda; the last step of every message."""
        budget = self._agenda_limit
        while self._settled and budget > 0:
            budget -= self._tell_dependents(budget, now_us)
        while self._sweep and budget > 0:
            self._look_at(self.ledger.tasks[self._sweep.popleft()], now_us)
            budget -= 1
            while self._settled and budget > 0:
                budget -= self._tell_dependents(budget, now_us)
        if self._ready or self._suspects:
            self._offer(budget, now_us)
        if not self.ledger.open:
            self._finish_if_done(now_us)

    def _tell_dependents(self, budget: int, now_us: Micros) -> int:
        """Work off one ended task; how many steps it took."""
        ended, position = self._settled.popleft()
        dependents = self.ledger.dependents(ended)
        stop = min(len(dependents), position + budget)
        for ordinal in dependents[position:stop]:
            task = self.ledger.note_dependency(ordinal, ended)
            if task.state is TaskState.PENDING and not task.queued:
                self.judge(task, now_us)
        if stop < len(dependents):
            self._settled.appendleft((ended, stop))
        return max(1, stop - position)

    def judge(self, task: Task, now_us: Micros) -> None:
        """Look at a Pending task's dependencies and act on the verdict."""
        ledger = self.ledger
        if ledger.phase is Phase.CANCEL:
            self._cancel_task(task, now_us)  # the sweep would come to it, but it has not failed because of another
            return
        if task.parent != TOP and not ledger.tasks[task.parent].body_seq:
            self._judge_provisional(task, ledger.tasks[task.parent], now_us)
            return
        need = len(ledger.cast.dependencies[task.ordinal])
        verdict = judge(ledger.cast.specs[task.ordinal].trigger, need, task.ok, task.bad, task.skipped)
        if ledger.phase is Phase.DRAIN and verdict is TriggerVerdict.BLOCK and not task.failed:
            # Only stopped tasks in its way so far. Wait for the rest, so that order plays no part.
            if task.ok + task.bad + task.skipped < need:
                return
            verdict = TriggerVerdict.GO
        match verdict:
            case TriggerVerdict.WAIT:
                return
            case TriggerVerdict.GO:
                self.make_eligible(task, now_us)
                return
            case TriggerVerdict.BLOCK:
                ledger.move(task, TaskMove.BLOCK, now_us)
            case TriggerVerdict.SKIP:
                ledger.move(task, TaskMove.TRIGGER_SKIP, now_us)
        self.settle(task, now_us)

    def _judge_provisional(self, task: Task, parent: Task, now_us: Micros) -> None:
        """The body that has added it has not succeeded. It never starts before that, and ends with its parent."""
        if not parent.settled:
            return
        move = _END_WITH_PARENT.get(parent.state, TaskMove.BLOCK)
        self.ledger.move(task, move, now_us, "cancelled" if move is TaskMove.CANCEL else "")
        self.settle(task, now_us)

    def _look_at(self, task: Task, now_us: Micros) -> None:
        """One step of a sweep: what the phase wants of this task now."""
        if task.out:
            return
        phase = self.ledger.phase
        if phase is Phase.RUN or phase is Phase.DRAIN:
            if self.ledger.hard and phase is Phase.DRAIN:
                self._stop_hard(task, now_us)
            if task.state is TaskState.PENDING and not task.queued:
                self.judge(task, now_us)
        elif phase is Phase.CANCEL:
            self._cancel_task(task, now_us)

    def _cancel_task(self, task: Task, now_us: Micros) -> None:
        if task.settled or task.awaits_subs:  # which ends with the last of its sub-tasks
            return
        if task.awaits_child:  # and ends with it
            self.tell_child(task, ChildOrder.CANCEL)
            return
        if task.slot:
            self.interrupt(task)
            return
        if task.state is TaskState.READY and not task.queued:
            self.withdraw(task)
        self.ledger.move(task, TaskMove.CANCEL, now_us)
        self.settle(task, now_us)

    def _stop_hard(self, task: Task, now_us: Micros) -> None:
        """on_failure: cancel. What runs or waits is cancelled; clean-up tasks are left to run."""
        if self.ledger.cast.cleanup[task.ordinal]:
            return
        if task.slot:
            self.interrupt(task)
        elif task.awaits_child:
            self.tell_child(task, ChildOrder.CANCEL)
        elif task.state in (TaskState.RETRYING, TaskState.WAITING) and not task.awaits_subs:
            self.ledger.move(task, TaskMove.CANCEL, now_us, "stopped")
            self.settle(task, now_us)

    def withdraw(self, task: Task) -> None:
        """The offer is void: its grant, if it comes, will be declined."""
        self._leave_place(task)
        self._forget_suspect(task)

    def _leave_place(self, task: Task) -> None:
        """One may be active in its place, of the instance and of its siblings."""
        self.ledger.active -= 1
        if task.parent != TOP and not task.undoing:
            family = self.ledger.cast.families[task.parent]
            family.active -= 1
            self._wake(family)

    def _wake(self, family: Family) -> None:
        """The next of those whom only `max_parallel` held back, if there is a place."""
        while family.held and not family.full:
            ordinal = family.held.popleft()
            if self.ledger.tasks[ordinal].queued:
                heappush(self._ready, ordinal)
                return

    def _forget_suspect(self, task: Task) -> None:
        if task.losses and self._suspects_active:
            self._suspects_active -= 1

    def _may_offer(self) -> bool:
        ledger = self.ledger
        if ledger.held or ledger.phase not in (Phase.RUN, Phase.DRAIN):
            return False
        limit = ledger.shape.max_active
        return limit is None or ledger.active < limit

    def _next_suspect(self) -> bool:
        return bool(self._suspects) and not self._suspects_active and self._may_offer()

    def _offer(self, budget: int, now_us: Micros) -> None:
        while budget > 0 and self._may_offer():
            if self._next_suspect():
                task = self.ledger.tasks[self._suspects.popleft()]
            elif self._ready:
                task = self.ledger.tasks[heappop(self._ready)]
            else:
                return
            budget -= 1
            if not task.queued:
                continue
            family = None if task.parent == TOP else self.ledger.cast.families[task.parent]
            if family is not None and family.full:
                family.held.append(task.ordinal)  # still queued, until there is a place
                continue
            task.queued = False
            self._offer_task(task, now_us, family)

    def _offer_task(self, task: Task, now_us: Micros, family: Family | None) -> None:
        if not self.may_begin(task):
            self.make_eligible(task, now_us)
            if family is not None:
                self._wake(family)  # it has not taken the place that it was woken for
            return
        if family is not None:
            family.active += 1
        task.attempt += 1
        task.due_us = None
        task.started_us = None
        alone = task.losses > 0 and self.one_suspect_at_a_time
        self._suspects_active += alone
        self.ledger.active += 1
        self.ledger.move(task, TaskMove.OFFER, now_us)
        self.effects.append(Offer(Ordinal(task.ordinal), task.attempt, alone))

    # -- sub-tasks ---------------------------------------------------------------------------------------------

    def close_if_done(self, parent: Task, now_us: Micros) -> None:
        """The last of its sub-tasks may have ended: then the parent ends, well or not."""
        ledger = self.ledger
        family = ledger.cast.families[parent.ordinal]
        if family.open or not parent.awaits_subs:
            return
        bad = [ordinal for ordinal in family.members if self.counts_as_bad(ledger.tasks[ordinal])]
        stopping = ledger.phase in (Phase.DRAIN, Phase.CANCEL)
        if stopping and any(ledger.tasks[ordinal].state is TaskState.CANCELLED for ordinal in bad):
            self.cancel(parent, now_us)
        elif bad and len(bad) > self._tolerated(parent, len(family.members)):
            self.fail(parent, TaskMove.TOO_MANY_FAILED, self._too_many(parent, bad, len(family.members)), now_us)
        else:
            ledger.move(parent, TaskMove.SUCCEED, now_us)
            self.settle(parent, now_us)

    def _tolerated(self, parent: Task, total: int) -> float:
        share = self.ledger.cast.specs[parent.ordinal].tolerance
        return (self.ledger.shape.tolerance if share is None else share) * total + _ROUNDING

    def _too_many(self, parent: Task, bad: Sequence[int], total: int) -> TaskFailure:
        tolerated = int(self._tolerated(parent, total))
        names = self.ledger.cast.some_names(bad)
        message = f"{len(bad):,} of {total:,} sub-tasks failed, {tolerated:,} are tolerated: {names}"
        return TaskFailure(type="SubTasksFailed", message=message, retryable=False)

    # -- the saga ----------------------------------------------------------------------------------------------

    def offer_undo(self, task: Task) -> None:
        """Ask for a slot for (another) attempt at its compensation; that it will run is committed first."""
        task.attempt += 1
        task.due_us = task.started_us = None
        self.ledger.active += 1
        self.ledger.touch(task)
        self.effects.append(Offer(Ordinal(task.ordinal), task.attempt))

    # -- the instance ------------------------------------------------------------------------------------------

    def _on_failure(self, task: Task) -> None:
        ledger = self.ledger
        if ledger.cast.specs[task.ordinal].continue_on_failure:
            return
        ledger.give_verdict(Verdict.FAILED, f"task {ledger.cast.names[task.ordinal]!r} failed: {task.reason}")
        if ledger.phase is Phase.RUN and ledger.shape.on_failure is not OnFailure.CONTINUE:
            ledger.hard = ledger.shape.on_failure is OnFailure.CANCEL
            ledger.step(PhaseMove.FAIL)
            if ledger.hard:
                self.sweep_all()

    def _finish_if_done(self, now_us: Micros) -> None:
        ledger = self.ledger
        if ledger.open or ledger.active or self._settled or ledger.phase in (Phase.NEW, Phase.END):
            return
        if ledger.verdict is Verdict.NONE:
            self._judge_instance()
        if ledger.phase is Phase.COMP or self.saga.asked:
            if ledger.held:
                return
            if (task := self.saga.next(now_us)) is not None:
                self.offer_undo(task)
                return
            ledger.final = self.saga.end()
        else:
            ledger.final = _FINAL_BY_VERDICT[ledger.verdict]
        ledger.lift()
        ledger.finished_us = now_us
        ledger.step(PhaseMove.FINISH, ledger.error)
        self.drop_queues()
        self.effects.append(Ended(ledger.final, ledger.run))

    def _judge_instance(self) -> None:
        """Nothing went wrong in this run. A retry of single tasks may have left others as an earlier run ended them."""
        ledger = self.ledger
        leftovers = (
            [task for task in ledger.tasks if task.parent == TOP and self.counts_as_bad(task)] if ledger.run > 1 else []
        )
        if not leftovers:
            ledger.give_verdict(Verdict.SUCCESS, "")
            return
        cancelled = all(task.state is TaskState.CANCELLED for task in leftovers)
        names = ledger.cast.some_names([task.ordinal for task in leftovers])
        verdict = Verdict.CANCELLED if cancelled else Verdict.FAILED
        ledger.give_verdict(verdict, f"left over from an earlier run: {names}")

    def counts_as_bad(self, task: Task) -> bool:
        """Ended bad, and the task does not tolerate its own failure."""
        if task.state not in TASK_BAD or task.out:
            return False
        tolerant = self.ledger.cast.specs[task.ordinal].continue_on_failure
        return not (tolerant and task.state in (TaskState.FAILED, TaskState.TIMED_OUT))
