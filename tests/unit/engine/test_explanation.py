"""What is said of a task and of an instance in each state: pure, from rows."""

import shlex
from typing import Any

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.cli.tree import ROOT
from taskengine.engine.explanation import (
    InstanceFacts,
    Seen,
    TaskFacts,
    Trail,
    explain_instance,
    explain_task,
)
from taskengine.engine.planner.trigger import TriggerVerdict
from taskengine.model.definition import RetryPolicy, TaskSpec, Trigger
from taskengine.model.ids import InstanceId, Ordinal, Version, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.records import InstanceRow, ParkKind, TaskFailure, TaskRow, Verdict
from taskengine.model.states import INSTANCE_FINAL, Hold, InstanceState, Phase, TaskState
from taskengine.wire import Explanation

S, Of = TaskState, InstanceState
AT = 1_700_000_000_000_000  # 2023-11-14 22:13:20 UTC
WHEN = "2023-11-14 22:13:20 UTC"
WAIT = {"job": "wait_for", "params": {"signal": "go", "timeout": "1h"}}
APPROVAL = {"job": "wait_for", "params": {"approval": True, "timeout": "1h", "on_timeout": "continue"}}


def instance(state: InstanceState = Of.RUNNING, **fields: Any) -> InstanceRow:
    held = {Of.PAUSED: Hold.PAUSED, Of.QUARANTINED: Hold.QUARANTINED}.get(state, Hold.NONE)
    phase = {Of.PENDING: Phase.NEW, Of.COMPENSATING: Phase.COMP}.get(state, Phase.RUN)
    final = state if state in INSTANCE_FINAL else None
    made: dict[str, Any] = {"phase": phase if final is None else Phase.END, "hold": held, "final": final, **fields}
    return InstanceRow(id=InstanceId("ID"), workflow_id=WorkflowId("w"), version=Version("v"), **made)


def seen(name: str = "t", state: TaskState = S.PENDING, spec: dict[str, Any] | None = None, **fields: Any) -> Seen:
    failure = fields.pop("failure", None)
    if failure is not None:
        fields["error"] = msgspec.json.encode(failure)
    row = TaskRow(ordinal=Ordinal(0), name=name, state=state, **fields)
    assert row.state is state
    return Seen(row, TaskSpec(**{"name": name, "job": "noop", **(spec or {})}))


def facts(task: Seen, of: InstanceRow | None = None, **others: Any) -> TaskFacts:
    return TaskFacts(instance=of or instance(), task=task, **others)


def commands(found: Explanation) -> list[str]:
    return [release.command.removeprefix("taskengine ") for release in found.releases if release.command]


NO = TaskFailure(type="ValueError", message="no\nway")
NEVER = TaskFailure(type="Rejected", message="by 王", retryable=False)
THRICE = RetryPolicy(count=2)
GO = seen("go", S.WAITING, WAIT, park=ParkKind.SIGNAL, key="go", due_us=AT)
FAILED = seen("bad", S.FAILED, failure=NO, tries=1, attempt=1)
FALSE = seen("w", S.SKIPPED, {"when": "${{ 1 > 2 }}"}, reason="when_false")
BEHIND = {"depends_on": ("mid",)}
ENDED = instance(Of.FAILED, verdict=Verdict.FAILED, error="task 'bad' failed: ValueError: no")
PAUSED = instance(Of.PAUSED)
QUARANTINED = instance(Of.QUARANTINED)


def trail(*near: Seen, roots: tuple[Seen, ...] = (), **more: Any) -> Trail:
    return Trail(near=near, roots=roots, **{"count": len(near), **more})


def waiting(found: Trail, of: InstanceRow | None = None) -> TaskFacts:
    return facts(seen(spec=BEHIND), of, trail=found, verdict=TriggerVerdict.WAIT)


MID = seen("mid", S.PENDING, {"depends_on": ("go",)})
SPREAD = seen("list", S.WAITING, {"max_parallel": 2}, park=ParkKind.SUBS, body_seq=1)

# What is known, what the sentence must say, and the commands that are offered.
TASKS: dict[str, tuple[TaskFacts, str, list[str]]] = {
    "pending behind one": (
        waiting(trail(GO)),
        f"`t` waits for `go`, which waits for the signal `go` until {WHEN}.",
        ["instance signal ID go"],
    ),
    "pending behind a chain": (
        waiting(trail(MID, roots=(GO,))),
        "`t` waits for `mid`; that begins with `go`, which waits for the signal `go`",
        ["instance signal ID go"],
    ),
    "pending behind many": (
        waiting(trail(GO, MID, count=12, more=10)),
        "`t` waits for `go`, `mid` and 10 more; `go` waits for the signal",
        ["instance signal ID go"],
    ),
    "pending behind too many": (waiting(trail(MID, cut=True)), "too many tasks stand above", []),
    "pending in a pause": (
        waiting(trail(GO), PAUSED),
        "; besides, the instance is paused.",
        ["instance resume ID", "instance signal ID go"],
    ),
    "pending while a failure drains": (
        waiting(trail(GO), instance(phase=Phase.DRAIN)),
        "; besides, something has failed, so little else will begin",
        ["instance signal ID go"],
    ),
    "free, but paused": (facts(seen(), PAUSED), "`t` could begin, but the instance is paused.", ["instance resume ID"]),
    "free, but quarantined": (
        facts(seen(), QUARANTINED),
        "could begin, but the instance is in quarantine",
        ["instance retry ID", "instance cancel ID"],
    ),
    "free, but being cancelled": (
        facts(seen(), instance(phase=Phase.CANCEL, error="by request")),
        "is about to be cancelled with its instance: by request",
        [],
    ),
    "free, but it will not run": (
        facts(seen(), verdict=TriggerVerdict.BLOCK),
        "is about to end: what it depends on has ended so that it will not run",
        [],
    ),
    "free, but a suspect": (facts(seen(losses=2)), "when the process died, 2 times in a row", []),
    "free, but the instance is full": (
        facts(seen(), at_once=1, companions=(GO,)),
        "waits for a place: 1 task may be under way at once (`max_concurrent_tasks`)",
        ["instance signal ID go"],
    ),
    "free, but its siblings are enough": (
        facts(seen("list/3"), parent=SPREAD),
        "of the sub-tasks of `list` 2 may run at once (`max_parallel`)",
        [],
    ),
    "free": (facts(seen()), "`t` is about to be offered to a worker.", []),
    "of a parent whose body runs": (
        facts(seen("list/3"), parent=seen("list", S.RUNNING, started_us=AT, attempt=1)),
        f"begins when the body of its parent has succeeded; `list` is running since {WHEN} (attempt 1)",
        [],
    ),
    "ready": (facts(seen("t", S.READY)), "`t` waits for a free worker.", []),
    "ready for a pool": (facts(seen("t", S.READY, {"pool": "api"})), "for a slot of the pool `api`", []),
    "ready in a pause": (facts(seen("t", S.READY), PAUSED), "besides, the instance is paused", ["instance resume ID"]),
    "running": (
        facts(seen("t", S.RUNNING, {"timeout_us": 90_000_000}, started_us=AT, attempt=2)),
        f"`t` is running since {WHEN} (attempt 2, for at most 1m30s).",
        [],
    ),
    "retrying": (
        facts(seen("t", S.RETRYING, attempt=1, due_us=AT, failure=NO)),
        f"`t` failed in attempt 1 (ValueError: no way) and tries again at {WHEN}.",
        [],
    ),
    "asleep": (facts(seen("t", S.WAITING, park=ParkKind.SLEEP, due_us=AT)), f"`t` sleeps until {WHEN}.", []),
    "for a signal": (facts(GO), f"`go` waits for the signal `go` until {WHEN}.", ["instance signal ID go"]),
    "for an approval": (
        facts(seen("a b", S.WAITING, APPROVAL, park=ParkKind.SIGNAL, key="a b", due_us=AT)),
        "`a b` waits for the approval `a b`",
        ["instance approve ID 'a b'", "instance reject ID 'a b'"],
    ),
    "for a child": (
        facts(seen("t", S.WAITING, park=ParkKind.CHILD, key="CHILD")),
        "`t` waits for the end of instance CHILD, which it has started.",
        ["explain CHILD"],
    ),
    "for sub-tasks": (
        facts(SPREAD, sub_tasks={S.SUCCESS: 3, S.WAITING: 1, S.PENDING: 6}, companions=(GO,)),
        "`list` waits for its sub-tasks: 7 of 10 have not ended.",
        ["instance signal ID go"],
    ),
    "succeeded": (facts(seen("t", S.SUCCESS, attempt=2)), "`t` has succeeded, in attempt 2.", []),
    "failed without retry": (
        facts(FAILED, ENDED),
        "`bad` failed: ValueError: no way; 1 attempt failed, and the task has no `retry` of its own.",
        ["instance retry ID", "instance retry ID --from bad"],
    ),
    "failed in all attempts": (
        facts(seen("t", S.FAILED, {"retry": THRICE}, tries=3, failure=NO), ENDED),
        "all of its 3 attempts were used",
        ["instance retry ID", "instance retry ID --from t"],
    ),
    "failed for another reason than retry is for": (
        facts(seen("t", S.FAILED, {"retry": RetryPolicy(count=2, on=("OSError",))}, tries=1, failure=NO), ENDED),
        "its `retry` is only for `OSError`",
        ["instance retry ID", "instance retry ID --from t"],
    ),
    "failed when the instance was ended": (
        facts(seen("t", S.FAILED, {"retry": THRICE}, tries=1, failure=NO), ENDED),
        "1 of its 3 attempts were used when the instance was ended",
        ["instance retry ID", "instance retry ID --from t"],
    ),
    "failed for good, in an instance that goes on": (
        facts(seen("t", S.FAILED, {"retry": THRICE}, tries=1, failure=NEVER)),
        "`t` failed: Rejected: by 王; such a failure is not repeated.",
        ["instance retry ID --from t"],
    ),
    "timed out": (
        facts(seen("t", S.TIMED_OUT, tries=1), ENDED),
        "`t` timed out: its time was over",
        ["instance retry ID", "instance retry ID --from t"],
    ),
    "failed below a parent that did not succeed": (
        facts(seen("list/1", S.UPSTREAM_FAILED), ENDED, parent=seen("list", S.FAILED, failure=NO)),
        "never began: the body of its parent did not succeed; `list` failed: ValueError",
        ["instance retry ID", "instance retry ID --from list"],
    ),
    "skipped by its when": (
        facts(FALSE, instance(Of.SUCCESS)),
        "`w` was skipped: its `when` was false: `${{ 1 > 2 }}`.",
        ["instance retry ID --from w", "instance fork ID --from w -p NAME=VALUE"],
    ),
    "skipped by its trigger": (
        facts(seen("t", S.SKIPPED, reason="trigger_skip"), instance(Of.SUCCESS), trail=trail(FALSE)),
        "`t` was skipped by its trigger `all_success`, because of `w`, which was skipped: its `when` was false",
        ["instance retry ID --from w"],
    ),
    "skipped, for nothing failed": (
        facts(seen("t", S.SKIPPED, {"trigger": Trigger.ONE_FAILED}, reason="trigger_skip"), instance(Of.SUCCESS)),
        "its trigger `one_failed` wants a failure, and nothing it depends on failed",
        ["instance retry ID --from t"],
    ),
    "upstream failed": (
        facts(
            seen("t", S.UPSTREAM_FAILED), ENDED, trail=trail(seen("mid", S.UPSTREAM_FAILED), roots=(FAILED,), more=3)
        ),
        "`t` never began, by its trigger `all_success`, because of `mid`; that begins with `bad`, which failed: Value",
        ["instance retry ID", "instance retry ID --from bad"],
    ),
    "stopped": (
        facts(seen("t", S.CANCELLED, reason="stopped"), ENDED, companions=(FAILED,)),
        "`t` was stopped by a failure: task 'bad' failed: ValueError: no.",
        ["instance retry ID"],
    ),
    "cancelled": (
        facts(seen("t", S.CANCELLED), instance(Of.CANCELLED, verdict=Verdict.CANCELLED, error="not today.")),
        "`t` was cancelled with its instance: not today.",
        ["instance retry ID"],
    ),
    "compensating": (
        facts(seen("t", S.COMPENSATING), instance(Of.COMPENSATING, error="task 'x' failed")),
        "`t` is being undone, for the instance did not end well: task 'x' failed.",
        [],
    ),
    "compensating again": (
        facts(seen("t", S.COMPENSATING, due_us=AT, failure=NO), instance(Of.COMPENSATING)),
        f"could not be undone yet (ValueError: no way); the next attempt is due at {WHEN}.",
        [],
    ),
    "compensated": (
        facts(seen("t", S.COMPENSATED), instance(Of.COMPENSATED)),
        "`t` was undone.",
        ["instance retry ID"],
    ),
    "failed and undone": (facts(FAILED, instance(Of.COMPENSATED)), "`bad` failed: ValueError", ["instance retry ID"]),
    "failed, while others are undone": (facts(FAILED, instance(Of.COMPENSATING)), "`bad` failed: ValueError", []),
    "not undone": (
        facts(seen("t", S.COMPENSATION_FAILED, failure=NO), instance(Of.COMPENSATION_FAILED)),
        "`t` could not be undone: ValueError: no way; what it has done is still there.",
        ["instance retry ID"],
    ),
}


@pytest.mark.parametrize("case", TASKS)
def test_a_task(case: str) -> None:
    known, says, offers = TASKS[case]
    found = explain_task(known)
    assert says in found.why
    assert commands(found) == offers
    assert (found.task, found.status) == (known.task.name, known.task.state.value)
    assert found.instance_status == known.instance.state.value


def test_every_state_of_a_task_is_in_the_table() -> None:
    assert {known.task.state for known, _, _ in TASKS.values()} == set(TaskState)


def test_what_comes_by_itself_has_its_time() -> None:
    for case in ("retrying", "asleep", "for a signal", "compensating again"):
        (timed,) = [release for release in explain_task(TASKS[case][0]).releases if release.at is not None]
        assert timed.at is not None
        assert timed.at.timestamp() == AT / 1e6, case
    (timeout,) = [it.at for it in explain_task(TASKS["running"][0]).releases if it.at is not None]
    assert timeout.timestamp() == AT / 1e6 + 90
    approval = explain_task(TASKS["for an approval"][0]).releases[-1]
    assert approval.what == "its time is over, and `a b` goes on without"


def test_the_tasks_behind_it_are_told_and_the_others_counted() -> None:
    chain = explain_task(TASKS["upstream failed"][0])
    assert [(cause.task, cause.status) for cause in chain.because] == [("mid", "UpstreamFailed"), ("bad", "Failed")]
    assert chain.more == 3
    assert explain_task(TASKS["for sub-tasks"][0]).more == 6


P = Progress(running=1, pending=2)

# What is known, what the sentence must say, and the commands that are offered.
INSTANCES: dict[str, tuple[InstanceFacts, str, list[str]]] = {
    "pending": (InstanceFacts(instance=instance(Of.PENDING), progress=P), "has not begun.", []),
    "running": (
        InstanceFacts(instance=instance(), progress=P, tasks=(GO,), total=1),
        f"`go` waits for the signal `go` until {WHEN}, and 2 tasks behind it.",
        ["instance signal ID go"],
    ),
    "running with many": (
        InstanceFacts(instance=instance(), progress=P, tasks=(GO, GO), total=2),
        "2 tasks hold it up, and 1 task behind them; the first: `go` waits",
        ["instance signal ID go"] * 2,
    ),
    "draining": (
        InstanceFacts(instance=instance(phase=Phase.DRAIN, error="task 'x' failed"), progress=P, tasks=(GO,), total=1),
        "the instance is ending, for task 'x' failed; `go` waits",
        ["instance signal ID go"],
    ),
    "being cancelled": (
        InstanceFacts(instance=instance(phase=Phase.CANCEL, error="why not"), progress=P),
        "the instance is being cancelled (why not); 3 tasks have not ended.",
        [],
    ),
    "paused": (
        InstanceFacts(instance=PAUSED, progress=P, tasks=(GO, seen("r", S.READY)), total=2),
        "the instance is paused, so nothing new begins; what has begun may finish: 2 tasks",
        ["instance resume ID", "instance signal ID go"],
    ),
    "quarantined": (
        InstanceFacts(instance=QUARANTINED, progress=P, note="the process died 5 times"),
        "in quarantine, so that it does no more harm, and nothing of it begins: the process died 5 times.",
        ["instance retry ID", "instance cancel ID"],
    ),
    "success": (InstanceFacts(instance=instance(Of.SUCCESS), progress=P), "has ended well", []),
    "failed": (
        InstanceFacts(instance=ENDED, progress=P, tasks=(FAILED,), total=1),
        "the instance failed: task 'bad' failed: ValueError: no.",
        ["instance retry ID"],
    ),
    "timed out": (
        InstanceFacts(instance=instance(Of.TIMED_OUT, error="the workflow's timeout is over"), progress=P),
        "the instance timed out: the workflow's timeout is over.",
        ["instance retry ID"],
    ),
    "cancelled": (
        InstanceFacts(instance=instance(Of.CANCELLED), progress=P),
        "the instance was cancelled: no reason was given.",
        ["instance retry ID"],
    ),
    "compensating": (
        InstanceFacts(instance=instance(Of.COMPENSATING, error="task 'x' failed"), progress=P),
        "is being undone, the last first, for task 'x' failed.",
        [],
    ),
    "compensated": (
        InstanceFacts(instance=instance(Of.COMPENSATED, error="task 'x' failed"), progress=P),
        "what the instance had done was undone, for task 'x' failed.",
        ["instance retry ID"],
    ),
    "not compensated": (
        InstanceFacts(instance=instance(Of.COMPENSATION_FAILED, error="x; not undone: y"), progress=P),
        "could not be undone as a whole: x; not undone: y.",
        ["instance retry ID"],
    ),
}


@pytest.mark.parametrize("case", INSTANCES)
def test_an_instance(case: str) -> None:
    known, says, offers = INSTANCES[case]
    found = explain_instance(known)
    assert says in found.why
    assert commands(found) == offers
    assert (found.task, found.status, found.instance_status) == (None, *[known.instance.state.value] * 2)


def test_every_state_of_an_instance_is_in_the_table() -> None:
    assert {known.instance.state for known, _, _ in INSTANCES.values()} == set(InstanceState)


def test_the_timeout_of_an_unfinished_instance_is_told() -> None:
    known = InstanceFacts(instance=instance(deadline_us=AT), progress=P)
    (release,) = explain_instance(known).releases
    assert release.at is not None
    assert release.at.timestamp() == AT / 1e6


def test_every_command_can_be_typed() -> None:
    offered = {word for known, _, _ in TASKS.values() for word in commands(explain_task(known))}
    offered |= {word for known, _, _ in INSTANCES.values() for word in commands(explain_instance(known))}
    for line in offered:
        words = shlex.split(line)
        with ROOT.make_context("taskengine", [*words[:2], "--help"], resilient_parsing=True) as context:
            _, command, rest = ROOT.resolve_command(context, words)
            if isinstance(command, click.Group):
                _, command, rest = command.resolve_command(context, rest)
            assert command is not None, line
            command.make_parser(context).parse_args(list(rest))


@given(st.text(), st.text())
def test_a_message_of_somebody_else_stays_one_line(kind: str, message: str) -> None:
    found = explain_task(facts(seen("t", S.FAILED, failure=TaskFailure(type=kind, message=message)), ENDED))
    assert len(found.why.splitlines()) <= 1
    assert len(found.why) < 500
