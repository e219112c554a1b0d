"""The state machines of tasks and instances, as data. Code never assigns a state, it makes a move.

Two roads into one state stay two moves: history, metrics and recovery care which road it was. The strings are what
the database, the API and the command line show. The diagrams in the documentation are printed from these tables.
"""

from collections.abc import Mapping
from typing import Final

from taskengine.errors import IllegalMove
from taskengine.model.label import Label

__all__ = [
    "BUCKETS",
    "INSTANCE_FINAL",
    "PHASE_EDGES",
    "TASK_BAD",
    "TASK_EDGES",
    "TASK_FINAL",
    "Bucket",
    "Hold",
    "InstanceState",
    "Phase",
    "PhaseMove",
    "TaskMove",
    "TaskState",
    "public_state",
    "step_phase",
    "step_task",
]


class TaskState(Label):
    PENDING = "Pending"  # a dependency has not ended, or there is no slot in this instance yet
    READY = "Ready"  # offered: attempt n is committed, a worker may take it
    RUNNING = "Running"  # a worker has it
    RETRYING = "Retrying"  # the attempt failed, there are tries left, a timer is armed
    WAITING = "Waiting"  # a sleep, a signal, a child or sub-tasks; holds no slot
    SUCCESS = "Success"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    SKIPPED = "Skipped"  # its `when` was false, or its trigger says so
    UPSTREAM_FAILED = "UpstreamFailed"  # never started: what it depends on failed
    CANCELLED = "Cancelled"
    COMPENSATING = "Compensating"
    COMPENSATED = "Compensated"
    COMPENSATION_FAILED = "CompensationFailed"


class TaskMove(Label):
    OFFER = "offer"
    BLOCK = "block"  # a dependency, or the parent's body, failed
    TRIGGER_SKIP = "trigger_skip"
    STOP = "stop"  # the instance drains after a failure
    CANCEL = "cancel"
    DISPATCH = "dispatch"
    SUCCEED = "succeed"
    AWAIT_SUBS = "await_subs"
    PARK = "park"
    RETRY = "retry"
    GIVE_UP = "give_up"
    EXPIRE = "expire"
    WHEN_FALSE = "when_false"
    INTERRUPT = "interrupt"  # we stopped it: pause --now, drain of the node; not counted
    LOSE = "lose"  # found running after an unclean end; counted in losses
    LOSE_ONCE = "lose_once"  # the same for a task that must run at most once
    TOO_MANY_FAILED = "too_many_failed"  # sub-tasks, above the tolerance
    COMPENSATE = "compensate"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"
    OWE_AGAIN = "owe_again"  # the user repeats a failed compensation
    RESET = "reset"  # the user's retry: the body will run again
    REOPEN = "reopen"  # the user's retry: a sub-task will run again, the body will not


_S, _M = TaskState, TaskMove

TASK_FINAL: Final = frozenset(
    {
        _S.SUCCESS,
        _S.FAILED,
        _S.TIMED_OUT,
        _S.SKIPPED,
        _S.UPSTREAM_FAILED,
        _S.CANCELLED,
        _S.COMPENSATED,
        _S.COMPENSATION_FAILED,
    }
)
"""Absorbing within a run, apart from the way into compensation; a user's retry opens a new run."""

TASK_BAD: Final = frozenset({_S.FAILED, _S.TIMED_OUT, _S.UPSTREAM_FAILED, _S.CANCELLED})
"""What a trigger counts as bad."""

TASK_EDGES: Final[Mapping[tuple[TaskState, TaskMove], TaskState]] = {
    (_S.PENDING, _M.OFFER): _S.READY,
    (_S.PENDING, _M.BLOCK): _S.UPSTREAM_FAILED,
    (_S.PENDING, _M.TRIGGER_SKIP): _S.SKIPPED,
    (_S.PENDING, _M.STOP): _S.CANCELLED,
    (_S.PENDING, _M.CANCEL): _S.CANCELLED,
    (_S.READY, _M.OFFER): _S.READY,
    (_S.READY, _M.DISPATCH): _S.RUNNING,
    (_S.READY, _M.STOP): _S.CANCELLED,
    (_S.READY, _M.CANCEL): _S.CANCELLED,
    (_S.RUNNING, _M.SUCCEED): _S.SUCCESS,
    (_S.RUNNING, _M.AWAIT_SUBS): _S.WAITING,
    (_S.RUNNING, _M.PARK): _S.WAITING,
    (_S.RUNNING, _M.RETRY): _S.RETRYING,
    (_S.RUNNING, _M.GIVE_UP): _S.FAILED,
    (_S.RUNNING, _M.EXPIRE): _S.TIMED_OUT,
    (_S.RUNNING, _M.WHEN_FALSE): _S.SKIPPED,
    (_S.RUNNING, _M.INTERRUPT): _S.PENDING,
    (_S.RUNNING, _M.LOSE): _S.PENDING,
    (_S.RUNNING, _M.LOSE_ONCE): _S.FAILED,
    (_S.RUNNING, _M.CANCEL): _S.CANCELLED,
    (_S.RETRYING, _M.OFFER): _S.READY,
    (_S.RETRYING, _M.CANCEL): _S.CANCELLED,
    (_S.WAITING, _M.SUCCEED): _S.SUCCESS,
    (_S.WAITING, _M.AWAIT_SUBS): _S.WAITING,
    (_S.WAITING, _M.TOO_MANY_FAILED): _S.FAILED,
    (_S.WAITING, _M.RETRY): _S.RETRYING,
    (_S.WAITING, _M.GIVE_UP): _S.FAILED,
    (_S.WAITING, _M.EXPIRE): _S.TIMED_OUT,
    (_S.WAITING, _M.CANCEL): _S.CANCELLED,
    **{(state, _M.COMPENSATE): _S.COMPENSATING for state in (_S.SUCCESS, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED)},
    (_S.COMPENSATING, _M.UNDONE): _S.COMPENSATED,
    (_S.COMPENSATING, _M.UNDO_FAILED): _S.COMPENSATION_FAILED,
    (_S.COMPENSATION_FAILED, _M.OWE_AGAIN): _S.SUCCESS,
    **{(state, _M.RESET): _S.PENDING for state in sorted(TASK_FINAL - {_S.COMPENSATION_FAILED})},
    **{(state, _M.REOPEN): _S.WAITING for state in (_S.SUCCESS, _S.FAILED, _S.TIMED_OUT, _S.CANCELLED)},
}


def step_task(state: TaskState, move: TaskMove) -> TaskState:
    """Where a move leads. Raises IllegalMove when the table has no such edge."""
    try:
        return TASK_EDGES[state, move]
    except KeyError:
        raise IllegalMove("task", state, move) from None


class Bucket(Label):
    """The seven numbers of progress, in the order in which they are stored; they add up to the total."""

    COMPLETED = "completed"
    FAILED = "failed"
    RUNNING = "running"
    PENDING = "pending"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    COMPENSATION = "compensation"


BUCKETS: Final[Mapping[TaskState, Bucket]] = {
    _S.PENDING: Bucket.PENDING,
    _S.READY: Bucket.PENDING,
    _S.RUNNING: Bucket.RUNNING,
    _S.RETRYING: Bucket.RUNNING,
    _S.WAITING: Bucket.RUNNING,
    _S.SUCCESS: Bucket.COMPLETED,
    _S.FAILED: Bucket.FAILED,
    _S.TIMED_OUT: Bucket.FAILED,
    _S.UPSTREAM_FAILED: Bucket.FAILED,
    _S.SKIPPED: Bucket.SKIPPED,
    _S.CANCELLED: Bucket.CANCELLED,
    _S.COMPENSATING: Bucket.COMPENSATION,
    _S.COMPENSATED: Bucket.COMPENSATION,
    _S.COMPENSATION_FAILED: Bucket.COMPENSATION,
}


class InstanceState(Label):
    """What users see of an instance; derived from phase and hold by `public_state`."""

    PENDING = "Pending"
    RUNNING = "Running"
    PAUSED = "Paused"
    SUCCESS = "Success"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"
    COMPENSATING = "Compensating"
    COMPENSATED = "Compensated"
    COMPENSATION_FAILED = "CompensationFailed"
    QUARANTINED = "Quarantined"


INSTANCE_FINAL: Final = frozenset(
    {
        InstanceState.SUCCESS,
        InstanceState.FAILED,
        InstanceState.CANCELLED,
        InstanceState.TIMED_OUT,
        InstanceState.COMPENSATED,
        InstanceState.COMPENSATION_FAILED,
    }
)


class Phase(Label):
    """How far an instance is. Pause and quarantine are holds and no phases."""

    NEW = "new"
    RUN = "run"
    DRAIN = "drain"  # a failure counted: what has begun finishes, little else starts
    CANCEL = "cancel"  # nothing starts, what runs is being stopped
    COMP = "comp"  # compensations run
    END = "end"


class PhaseMove(Label):
    START = "start"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"
    COMPENSATE = "compensate"
    FINISH = "finish"
    RERUN = "rerun"
    REPAIR = "repair"  # retry of failed compensations


_P, _PM = Phase, PhaseMove

PHASE_EDGES: Final[Mapping[tuple[Phase, PhaseMove], Phase]] = {
    (_P.NEW, _PM.START): _P.RUN,
    (_P.RUN, _PM.FAIL): _P.DRAIN,
    **{(phase, _PM.CANCEL): _P.CANCEL for phase in (_P.RUN, _P.DRAIN)},
    **{(phase, _PM.EXPIRE): _P.CANCEL for phase in (_P.RUN, _P.DRAIN)},
    **{(phase, _PM.COMPENSATE): _P.COMP for phase in (_P.RUN, _P.DRAIN, _P.CANCEL)},
    **{(phase, _PM.FINISH): _P.END for phase in (_P.RUN, _P.DRAIN, _P.CANCEL, _P.COMP)},
    (_P.END, _PM.RERUN): _P.RUN,
    (_P.END, _PM.REPAIR): _P.COMP,
}


def step_phase(phase: Phase, move: PhaseMove) -> Phase:
    """Where a move leads. Raises IllegalMove when the table has no such edge."""
    try:
        return PHASE_EDGES[phase, move]
    except KeyError:
        raise IllegalMove("instance", phase, move) from None


class Hold(Label):
    """Why nothing may start although the phase would allow it."""

    NONE = ""
    PAUSED = "paused"
    QUARANTINED = "quarantined"


_HELD: Final = {Hold.PAUSED: InstanceState.PAUSED, Hold.QUARANTINED: InstanceState.QUARANTINED}
_BY_PHASE: Final = {_P.NEW: InstanceState.PENDING, _P.COMP: InstanceState.COMPENSATING}


def public_state(phase: Phase, hold: Hold, final: InstanceState | None) -> InstanceState:
    """What users see. `final` is set exactly when the phase is END."""
    if phase is Phase.END:
        assert final is not None, "an instance at its end has a final state"
        return final
    return _HELD.get(hold) or _BY_PHASE.get(phase, InstanceState.RUNNING)
