"""The actor of one attempt: inputs, `when`, params, the body, its deadline, its end. It reports exactly once."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from taskengine.actors import AsyncActor
from taskengine.bus import ProgressFrame
from taskengine.clock import Micros, TimerHandle
from taskengine.engine.assignment import Assignment
from taskengine.engine.errands import Errands
from taskengine.engine.inputs import (
    Upstream,
    bound_params,
    idempotency_key,
    items,
    names_for,
    undo_params,
    wanted,
)
from taskengine.engine.logbook import Speaker
from taskengine.engine.mail import Found, GraceOver, Interrupted, Kept, OutOfTime, Spread, Unkept, Unreadable
from taskengine.engine.results import gathered, whole_results
from taskengine.engine.staff import Staff
from taskengine.errors import Conflict, TaskEngineError, Unavailable
from taskengine.functions import CallInfo, JobFunction, LogLine, Parked, ProgressNote, Raised, Returned, Running
from taskengine.functions.questions import Answered, OnAnswer, Question, refused
from taskengine.model.added import Added, encode_added
from taskengine.model.artifacts import is_reference, reference
from taskengine.model.children import ChildOf
from taskengine.model.definition import Executor, RetryPolicy
from taskengine.model.ids import Ordinal, WorkflowId
from taskengine.model.messages import Park, Settled
from taskengine.model.records import Outcome, ParkKind, TaskFailure

__all__ = ["TaskActor"]


_JSON: Final = msgspec.json.Encoder()


class TaskActor(AsyncActor):
    """Runs one attempt in a slot. A child of its instance's actor, which hears one `Settled` from it.

    The slot goes back to the runner when the body has really ended, which can be later than the report: a thread
    that ignores its cancel is abandoned after the grace period.
    """

    __slots__ = (
        "_errands",
        "_errors",
        "_grace",
        "_job",
        "_over",
        "_results",
        "_running",
        "_staff",
        "_started_us",
        "_timeout_us",
        "_timer",
        "_work",
        "why",
    )

    def __init__(self, staff: Staff, work: Assignment) -> None:
        self._staff = staff
        self._work = work
        self._results: Mapping[int, bytes] = work.results
        self._errors: Mapping[int, bytes] = {}
        self._started_us: Micros | None = None
        self._job: JobFunction | None = None
        self._timeout_us: Micros | None = None
        self._running: Running | None = None
        self._timer: TimerHandle | None = None
        self._grace: TimerHandle | None = None
        self._over = False
        self._errands: Errands | None = None
        self.why: Outcome | None = None  # why the body was asked to end

    def on_start(self) -> None:
        work = self._work
        if work.missing_results or work.missing_errors or any(map(is_reference, work.results.values())):
            self.dispatcher.spawn(self._fetch(), owner=self.actor_ref, on_done=self._fetched)
        else:
            try:
                self._begin()
            except Exception as error:  # as in pykka, `on_failure` is for what handlers raise
                self.on_failure(type(error), error, error.__traceback__)
                raise

    def on_receive(self, message: object) -> None:
        match message:
            case Found():
                self._results = {**self._results, **message.results}
                self._errors = message.errors
                self._begin()
            case Unreadable() if self.why is not None:
                self._finish(self._settled(self.why))
            case Unreadable():
                self._fail(message.error)
            case Spread():
                self._finish(self._settled(self.why or Outcome.OK))
            case Interrupted():
                self._stop_body(Outcome.INTERRUPTED)
            case OutOfTime():
                self._stop_body(Outcome.TIMEOUT)
            case GraceOver():
                self._abandon()
            case Returned() | Raised() | Parked():
                self._ended(message)
            case Kept():
                self._finish(self._settled(Outcome.OK, result=message.result), keep_slot=True)
            case Unkept():
                self._finish(self._settled(Outcome.FAIL, error=_not_kept(message.error)), keep_slot=True)
            case _:
                super().on_receive(message)

    def on_failure(self, *exc_info: object) -> None:
        """A failure of this actor is our bug; the attempt fails, the instance goes on."""
        failure = TaskFailure(type="InternalError", message=f"the engine failed to run the attempt: {exc_info[1]!r}")
        self._report(Settled(self._work.ordinal, self._work.attempt, Outcome.FAIL, error=failure))
        if self._running is None:
            self._release()
        else:
            self._running.cancel()  # gives the slot back when it has ended
        self._clean_up()

    def on_stop(self) -> None:
        """The instance's actor is going away: nobody wants the report, the body must not go on."""
        if not self._over and self._running is not None:
            self._running.cancel()
        self._over = True
        self._clean_up()

    # -- before the body ---------------------------------------------------------------------------------------

    async def _fetch(self) -> Found:
        store, work = self._staff.store, self._work
        missing = await store.results(work.instance_id, _ordinals(work.missing_results - work.gathers.keys()))
        results = await whole_results({**work.results, **_plain(missing)}, self._staff.artifacts)
        for parent, members in work.gathers.items():
            results[parent] = await gathered(store, self._staff.artifacts, work.instance_id, members)
        errors = await store.task_errors(work.instance_id, _ordinals(work.missing_errors))
        return Found(results, _plain(errors))

    def _fetched(self, outcome: object) -> None:
        self.actor_ref.tell(Unreadable(outcome) if isinstance(outcome, BaseException) else outcome)

    def _begin(self) -> None:
        """Evaluate, bind and start the body; whatever goes wrong here is the attempt's failure."""
        if self._over:
            return
        if self.why is not None:
            self._finish(Settled(self._work.ordinal, self._work.attempt, self.why))
            return
        self._started_us = self._staff.ambient.clock.now_us()
        try:
            if not self._start_body():
                self._finish(self._settled(Outcome.SKIP))
        except Unavailable:  # the engine is stopping and takes no more bodies: as if it had not been granted
            self._finish(Settled(self._work.ordinal, self._work.attempt, Outcome.INTERRUPTED))
        except TaskEngineError as error:
            self._fail(error)

    def _start_body(self) -> bool:
        """False when `when` says no."""
        work, staff = self._work, self._staff
        spec = work.step.spec
        names = {} if work.step.fixed else names_for(work.given, self._upstream(), work.item)
        if work.undo is not None:
            self._start_undo(work.undo, names)
            return True
        if not wanted(work.step, names):
            return False
        if work.step.spread:
            staff.registry.get(spec.job)  # else each item would fail for the same reason
            self._spread(items(work.step, names))
            return True
        staff.runner.require(spec.pool)
        self._job = job = staff.registry.get(spec.job)
        self._timeout_us = spec.timeout_us or job.timeout_us or staff.settings.default_timeout_us
        direct = self._direct_results()
        self._call(job, self._call_info(names, bound_params(work.step, names, direct), direct))
        return True

    def _start_undo(self, error: str, names: Mapping[str, object]) -> None:
        """The compensation gets what its task got and gave, as far as its function takes it."""
        work, staff = self._work, self._staff
        undo = work.step.spec.compensation
        assert undo is not None, "what is undone says how"
        self._job = job = staff.registry.get(undo.job)
        self._timeout_us = undo.timeout_us or job.timeout_us or staff.settings.default_timeout_us
        direct = self._direct_results()
        own = bound_params(work.step, names, direct)
        params = undo_params(undo, own, names, self._results.get(work.ordinal), error, f"tasks.{work.name}")
        self._call(job, self._call_info(names, job.binder.fitting(params), direct))

    def _call_info(
        self, names: Mapping[str, object], params: Mapping[str, Any], direct: Mapping[str, bytes]
    ) -> CallInfo:
        """What the body hears of its attempt, whose time begins now."""
        work = self._work
        return CallInfo(
            instance_id=work.instance_id,
            workflow_id=work.given.workflow_id,
            ordinal=work.ordinal,
            task_name=work.name,
            attempt=work.attempt,
            run=work.run,
            idempotency_key=idempotency_key(work.step, names, work.given, work.name),
            deadline_us=self._arm_deadline(self._timeout_us),
            params=params,
            upstream=direct,
        )

    def _spread(self, found: Sequence[Any]) -> None:
        """Add a sub-task for each item. They start when this attempt has succeeded."""
        sources = [encode_added(Added(index=at, item=msgspec.Raw(_JSON.encode(item)))) for at, item in enumerate(found)]
        self.dispatcher.spawn(self._asking().add(sources), owner=self.actor_ref, on_done=self._spread_done)

    def _spread_done(self, outcome: object) -> None:
        self.actor_ref.tell(Unreadable(outcome) if isinstance(outcome, BaseException) else Spread())

    def _direct_results(self) -> dict[str, bytes]:
        found, names = self._results, self._work.names
        return {names[ordinal]: found[ordinal] for ordinal in self._work.direct if ordinal in found}

    def _upstream(self) -> dict[str, Upstream]:
        work = self._work
        by_name = {name: ordinal for ordinal, name in work.names.items()}
        return {
            name: Upstream(status, self._results.get(by_name[name]), self._errors.get(by_name[name]))
            for name, status in work.statuses.items()
        }

    def _call(self, job: JobFunction, info: CallInfo) -> None:
        ref, runner, bodies = self.actor_ref, self._staff.runner, self._staff.directory.bodies
        dispatcher = self.dispatcher
        body = (self._work.instance_id, self._work.ordinal, self._work.attempt)

        def on_done(outcome: Returned | Raised | Parked) -> None:
            bodies.discard(body)
            runner.release(*body)
            if ref.is_alive():
                ref.tell(outcome)
                if not bodies:  # the only one: no other outcome will share its decision
                    dispatcher.run_now()

        self._staff.ambient.probe.reach("body.before")
        executor = Executor.AUTO if self._work.undo is not None else self._work.step.spec.executor
        self._running = self._staff.caller.start(job, info, on_done, self._tell_frame, executor, self._asked)
        bodies.add(body)

    def _arm_deadline(self, timeout_us: Micros | None) -> Micros | None:
        if timeout_us is None:
            return None
        clock, ref = self._staff.ambient.clock, self.actor_ref
        self._timer = clock.call_at(clock.monotonic() + timeout_us / 1_000_000, lambda: ref.tell(OutOfTime()))
        return Micros(clock.now_us() + timeout_us)

    # -- while it runs -----------------------------------------------------------------------------------------

    def _tell_frame(self, frame: LogLine | ProgressNote) -> None:
        """What the body says; once it has been given up nobody listens to it any more."""
        if self._over:
            return
        if isinstance(frame, LogLine):
            self._staff.logbook.add(self._speaker(), frame)
        elif self._staff.bus.listened:
            work = self._work
            self._staff.bus.publish(
                ProgressFrame(
                    instance_id=work.instance_id,
                    workflow_id=WorkflowId(work.given.workflow_id),
                    task=work.name,
                    fraction=frame.fraction,
                    message=self._staff.mask.apply(frame.message),
                )
            )

    def _asked(self, question: Question, on_answer: OnAnswer) -> None:
        """The body asks, and waits. An attempt that nobody listens to any more has no answer."""

        def tell(outcome: object) -> None:
            on_answer(refused(outcome) if isinstance(outcome, BaseException) else _answered(outcome))

        if self._over:
            on_answer(refused(Conflict("this attempt does not count any more")))
        else:
            self.dispatcher.spawn(self._asking().run(question), owner=self.actor_ref, on_done=tell)

    def _asking(self) -> Errands:
        """Made when the body asks first; few do."""
        if self._errands is None:
            parent = self.actor_ref.parent
            assert parent is not None, "an attempt is a child of its instance"
            self._errands = Errands(self._staff, self._work, parent)
        return self._errands

    def _speaker(self) -> Speaker:
        given, work = self._work.given, self._work
        workflow_id = WorkflowId(given.workflow_id)
        return Speaker(work.instance_id, workflow_id, work.name, work.attempt, given.fresh)

    def _stop_body(self, why: Outcome) -> None:
        """Ask it to end. A cancel after a timeout, or the other way round, changes nothing: the first reason stays."""
        if self._over or self.why is not None:
            return
        self.why = why
        if self._running is None:
            return  # still reading inputs; `_begin` will see it
        self._running.cancel()
        clock, ref = self._staff.ambient.clock, self.actor_ref
        if why is Outcome.INTERRUPTED:
            until = clock.monotonic() + self._staff.settings.grace_s
            self._grace = clock.call_at(until, lambda: ref.tell(GraceOver()))

    def _abandon(self) -> None:
        """It was cancelled and would not end: the instance goes on without it, its slot stays taken."""
        if self._over or self.why is None:
            return
        self._staff.ambient.log.warning(
            "task.abandoned",
            instance=self._work.instance_id,
            task=self._work.name,
            attempt=self._work.attempt,
        )
        self._staff.ambient.metrics.count("tasks.abandoned")
        error = self._timeout_failure() if self.why is Outcome.TIMEOUT else None
        self._finish(self._settled(self.why, error=error), keep_slot=True)

    # -- after it ----------------------------------------------------------------------------------------------

    def _ended(self, outcome: Returned | Raised | Parked) -> None:
        if self._over:
            return
        if self._work.undo is not None and type(outcome) is Returned:
            outcome = Returned(b"null")  # what a compensation gives is nobody's
        if type(outcome) is Returned and len(outcome.result) > self._staff.settings.inline_result and self.why is None:
            self._keep(outcome.result)
            return
        self._finish(self._judge(outcome), keep_slot=True)  # `on_done` has given the slot back

    def _keep(self, result: bytes) -> None:
        """A large result is durable in the artifact store before the row that names it is written."""
        ref = self.actor_ref

        def tell(outcome: object) -> None:
            failed = isinstance(outcome, BaseException)
            ref.tell(Unkept(outcome) if failed else Kept(reference(outcome)))  # type: ignore[arg-type]

        self.dispatcher.spawn(self._staff.artifacts.put(result), owner=ref, on_done=tell)

    def _judge(self, outcome: Returned | Raised | Parked) -> Settled:
        """What the end of the body means. After the deadline nothing counts any more but that it is over."""
        if self.why is Outcome.TIMEOUT:
            return self._settled(Outcome.TIMEOUT, error=self._timeout_failure())
        match outcome:
            case Returned():
                return self._settled(Outcome.OK, result=outcome.result)
            case Parked():
                return self._settled(Outcome.PARK, park=self._park(outcome))
            case Raised():
                interrupted = outcome.interrupted and self.why is Outcome.INTERRUPTED
                return self._settled(Outcome.INTERRUPTED if interrupted else Outcome.FAIL, error=outcome.error)

    def _park(self, outcome: Parked) -> Park:
        span_us = outcome.span_us
        due_us = None if span_us is None else Micros(self._staff.ambient.clock.now_us() + span_us)
        if outcome.child:
            wanted_by = ChildOf(self._work.instance_id, self._work.ordinal, self._work.attempt)
            return Park(ParkKind.CHILD, None, wanted_by.child, outcome.result)
        if outcome.signal is None:
            return Park(ParkKind.SLEEP, due_us, "", outcome.result)
        return Park(ParkKind.SIGNAL, due_us, outcome.signal or self._work.step.spec.name)

    def _timeout_failure(self) -> TaskFailure:
        return TaskFailure(
            type="TimeoutError",
            message=f"the attempt took longer than its timeout of {(self._timeout_us or 0) / 1_000_000:g} s",
            bases=("OSError",),
        )

    def _settled(
        self,
        outcome: Outcome,
        *,
        result: bytes | None = None,
        error: TaskFailure | None = None,
        park: Park | None = None,
    ) -> Settled:
        return Settled(
            self._work.ordinal,
            self._work.attempt,
            outcome,
            started_us=self._started_us,
            result=result,
            error=error,
            park=park,
            retry=self._retry(),
        )

    def _retry(self) -> RetryPolicy | None:
        """What holds where the definition states none. A task that runs at most once gets no policy by default."""
        own = None if self._job is None else self._job.retry
        if own is None and (self._work.undo is not None or not self._work.step.spec.at_most_once):
            return self._staff.settings.default_retry
        return own

    def _fail(self, error: BaseException) -> None:
        """The body could not even start. Trying the same again is left to the retry policy only where it may help."""
        failure = TaskFailure(
            type=type(error).__name__,
            message=str(error),
            bases=tuple(base.__name__ for base in type(error).__mro__[1:-3]),
            retryable=False,
        )
        self._finish(self._settled(Outcome.FAIL, error=failure))

    def _finish(self, report: Settled, *, keep_slot: bool = False) -> None:
        self._report(report)
        if not keep_slot:
            self._release()
        self._over = True
        self._clean_up()
        if not self.leave():
            self.stop()

    def _report(self, report: Settled) -> None:
        parent = self.actor_ref.parent
        if parent is not None and not self._over:
            parent.tell(report)

    def _release(self) -> None:
        """The slot goes back, and no body has begun in it."""
        self._staff.runner.decline(self._work.instance_id, self._work.ordinal, self._work.attempt)

    def _clean_up(self) -> None:
        for timer in (self._timer, self._grace):
            if timer is not None:
                timer.cancel()
        self._timer = self._grace = None


def _answered(value: object) -> Answered:
    return Answered(msgspec.Raw(_JSON.encode(value)))


def _not_kept(error: BaseException) -> TaskFailure:
    return TaskFailure(type=type(error).__name__, message=f"the result is large and could not be kept: {error}")


def _ordinals(numbers: frozenset[int]) -> list[Ordinal]:
    return [Ordinal(number) for number in sorted(numbers)]


def _plain(found: Mapping[Ordinal, bytes]) -> dict[int, bytes]:
    return {int(ordinal): text for ordinal, text in found.items()}
