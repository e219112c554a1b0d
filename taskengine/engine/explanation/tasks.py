"""Why one task is where it is. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from taskengine.engine.explanation.facts import Seen, TaskFacts
from taskengine.engine.explanation.releasing import again, fork_with_params, from_hold, of_task, of_tasks
from taskengine.engine.explanation.wording import (
    begin_with,
    causes,
    condition,
    failure_text,
    names,
    one_line,
    sentence,
    several,
)
from taskengine.engine.planner.retry import may_retry
from taskengine.engine.planner.trigger import TriggerVerdict
from taskengine.model.definition import Trigger
from taskengine.model.records import ParkKind, Verdict
from taskengine.model.spelling import quoted
from taskengine.model.states import TASK_FINAL, Hold, Phase, TaskMove, TaskState
from taskengine.wire import Explanation, Release

__all__ = ["explain_task"]

_S = TaskState


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say. more: tasks that are not named."""

    why: str
    tasks: tuple[Seen, ...] = ()
    more: int = 0
    releases: list[Release] = []


def explain_task(facts: TaskFacts) -> Explanation:
    told = _TELLERS[facts.task.state](facts)
    return Explanation(
        instance_id=facts.instance.id,
        instance_status=facts.instance.state.value,
        task=facts.task.name,
        status=facts.task.state.value,
        why=sentence(told.why),
        because=causes(told.tasks),
        more=told.more,
        releases=told.releases,
    )


# -- it has not begun ----------------------------------------------------------------------------------------------


def _pending(facts: TaskFacts) -> _Told:
    parent = facts.parent
    if parent is not None and not parent.row.body_seq:
        why = f"{_me(facts)} begins when the body of its parent has succeeded; {begin_with(parent)}"
        releases = [*from_hold(facts.instance), *of_task(facts.instance, parent)]
        return _Told(why=why, tasks=(parent,), releases=releases)
    ending = facts.instance.phase in (Phase.CANCEL, Phase.END)
    if facts.trail.count and facts.verdict is not TriggerVerdict.GO and not ending:
        return _behind_others(facts)
    told = _Told(why=f"{_me(facts)} {_no_place(facts)}", releases=from_hold(facts.instance))
    if facts.instance.hold is Hold.NONE and facts.instance.phase in (Phase.RUN, Phase.DRAIN) and facts.companions:
        shown = facts.companions
        return msgspec.structs.replace(told, tasks=shown, releases=of_tasks(facts.instance, shown))
    return told


def _behind_others(facts: TaskFacts) -> _Told:
    """It waits for dependencies, and they perhaps for theirs."""
    trail, instance = facts.trail, facts.instance
    why = f"{_me(facts)} waits for {names(trail.near, trail.count)}"
    blockers = _beginnings(facts)
    if blockers:
        why += _which(facts, blockers[0])
    elif trail.cut:
        why += "; too many tasks stand above to say where that begins"
    held = _HELD.get(instance.hold) or (_DRAINS if instance.phase is Phase.DRAIN else "")
    return _Told(
        why=f"{why}; besides, {held}" if held else why,
        tasks=(*trail.near, *trail.roots),
        more=trail.more,
        releases=[*from_hold(instance), *of_tasks(instance, blockers)],
    )


def _beginnings(facts: TaskFacts) -> tuple[Seen, ...]:
    """Where it begins: above the dependencies, or with those that have not got it from above themselves."""
    return (*facts.trail.roots, *(task for task in facts.trail.near if _is_beginning(task)))


def _is_beginning(task: Seen) -> bool:
    passed_on = task.state is _S.SKIPPED and task.row.reason != TaskMove.WHEN_FALSE
    return task.state not in (_S.PENDING, _S.UPSTREAM_FAILED) and not passed_on


def _which(facts: TaskFacts, root: Seen) -> str:
    """The clause about the task in which it begins; one that was named just before is not named again."""
    if root not in facts.trail.near:
        return f"; that begins with {quoted(root.name)}, which {condition(root)}"
    return f", which {condition(root)}" if facts.trail.count == 1 else f"; {begin_with(root)}"


_HELD: Final[Mapping[Hold, str]] = {
    Hold.PAUSED: "the instance is paused",
    Hold.QUARANTINED: "the instance is in quarantine",
}
_DRAINS: Final = "something has failed, so little else will begin in this instance"


def _no_place(facts: TaskFacts) -> str:
    """Its dependencies let it begin, or will end it at once; why it has not happened."""
    instance, parent, losses = facts.instance, facts.parent, facts.task.row.losses
    if instance.phase is Phase.END:
        return "has not been touched by this run, and the instance has ended"
    if instance.phase is Phase.CANCEL:
        return f"is about to be cancelled with its instance: {one_line(instance.error)}"
    if held := _HELD.get(instance.hold):
        return f"could begin, but {held}"
    if facts.verdict is not TriggerVerdict.GO:
        return "is about to end: what it depends on has ended so that it will not run"
    if losses:
        return f"was running when the process died, {several(losses, 'time')} in a row; such tasks start one at a time"
    if parent is not None and parent.spec.max_parallel is not None:
        most = parent.spec.max_parallel
        return f"waits for a place: of the sub-tasks of {quoted(parent.name)} {most} may run at once (`max_parallel`)"
    if facts.at_once is not None:
        return f"waits for a place: {several(facts.at_once, 'task')} may be under way at once (`max_concurrent_tasks`)"
    return "is about to be offered to a worker"


# -- it is under way -----------------------------------------------------------------------------------------------


def _under_way(facts: TaskFacts) -> _Told:
    task, instance = facts.task, facts.instance
    if task.state is _S.WAITING and task.row.park is ParkKind.SUBS:
        return _with_sub_tasks(facts)
    held = _HELD.get(instance.hold) if task.state in (_S.READY, _S.RETRYING) else None
    why = f"{begin_with(task)}; besides, {held}" if held else begin_with(task)
    return _Told(why=why, releases=[*(from_hold(instance) if held else []), *of_task(instance, task)])


def _with_sub_tasks(facts: TaskFacts) -> _Told:
    counts, shown = facts.sub_tasks, facts.companions
    total = sum(counts.values())
    left = sum(count for state, count in counts.items() if state not in TASK_FINAL)
    why = f"{_me(facts)} waits for its sub-tasks: {left:,} of {total:,} have not ended"
    releases = of_tasks(facts.instance, shown) or of_task(facts.instance, facts.task)
    return _Told(why=why, tasks=shown, more=max(0, left - len(shown)), releases=[*from_hold(facts.instance), *releases])


# -- it has ended --------------------------------------------------------------------------------------------------


def _succeeded(facts: TaskFacts) -> _Told:
    return _Told(why=f"{_me(facts)} has succeeded, in attempt {facts.task.row.attempt}")


def _failed(facts: TaskFacts) -> _Told:
    """Perhaps by its sub-tasks."""
    shown = facts.companions
    bad = sum(facts.sub_tasks.get(state, 0) for state in (_S.FAILED, _S.TIMED_OUT))
    why = f"{begin_with(facts.task)}; {_no_more_tries(facts.task)}"
    return _Told(why=why, tasks=shown, more=max(0, bad - len(shown)), releases=again(facts))


def _no_more_tries(task: Seen) -> str:
    """Why it was not tried again."""
    policy, failure, tries = task.spec.retry, task.failure, task.row.tries
    if failure is not None and not failure.retryable:
        return "such a failure is not repeated"
    if policy is None:
        return f"{several(tries, 'attempt')} failed, and the task has no `retry` of its own"
    if policy.on and not may_retry(policy, 0, failure):
        return f"its `retry` is only for {', '.join(map(quoted, policy.on))}"
    if tries > policy.count:
        return f"all of its {several(policy.count + 1, 'attempt')} were used"
    return f"{tries:,} of its {several(policy.count + 1, 'attempt')} were used when the instance was ended"


def _skipped(facts: TaskFacts) -> _Told:
    task, trail = facts.task, facts.trail
    if task.row.reason == TaskMove.WHEN_FALSE:
        return _Told(why=begin_with(task), releases=[*again(facts), *fork_with_params(facts)])
    if task.spec.trigger is Trigger.ONE_FAILED:
        why = f"{_me(facts)} was skipped: its trigger `one_failed` wants a failure, and nothing it depends on failed"
        return _Told(why=why, releases=again(facts))
    if facts.parent is not None and not trail.count:
        return _with_parent(facts, "was skipped with its parent")
    return _passed_on(facts, f"was skipped by its trigger `{task.spec.trigger.value}`")


def _upstream_failed(facts: TaskFacts) -> _Told:
    if facts.parent is not None and not facts.trail.count:
        return _with_parent(facts, "never began: the body of its parent did not succeed")
    return _passed_on(facts, f"never began, by its trigger `{facts.task.spec.trigger.value}`")


def _with_parent(facts: TaskFacts, what: str) -> _Told:
    assert facts.parent is not None, "only a sub-task ends with its parent"
    why = f"{_me(facts)} {what}; {begin_with(facts.parent)}"
    return _Told(why=why, tasks=(facts.parent,), releases=again(facts))


def _passed_on(facts: TaskFacts, what: str) -> _Told:
    """It has its end from what it depends on."""
    trail, roots = facts.trail, _beginnings(facts)
    why = f"{_me(facts)} {what}, because of {names(trail.near, trail.count)}" if trail.count else f"{_me(facts)} {what}"
    if roots:
        why += _which(facts, roots[0])
    tasks = (*trail.near, *trail.roots)
    return _Told(why=why, tasks=tasks, more=trail.more, releases=again(facts, roots))


def _cancelled(facts: TaskFacts) -> _Told:
    instance = facts.instance
    about = f": {one_line(instance.error)}" if instance.error else ""
    how = "was stopped by a failure" if instance.verdict is Verdict.FAILED else "was cancelled with its instance"
    why = f"{_me(facts)} {how}{about}"
    return _Told(why=why, tasks=facts.companions, releases=again(facts)[:1])


# -- it is undone --------------------------------------------------------------------------------------------------


def _undone(facts: TaskFacts) -> _Told:
    """Compensating or Compensated."""
    reason = f", for the instance did not end well: {one_line(facts.instance.error)}" if facts.instance.error else ""
    releases = of_task(facts.instance, facts.task) if facts.task.state is _S.COMPENSATING else again(facts)
    return _Told(why=f"{begin_with(facts.task)}{reason}", releases=releases)


def _not_undone(facts: TaskFacts) -> _Told:
    failed = failure_text(facts.task)
    why = f"{_me(facts)} could not be undone{f': {failed}' if failed else ''}; what it has done is still there"
    return _Told(why=why, releases=again(facts))


def _me(facts: TaskFacts) -> str:
    return quoted(facts.task.name)


_TELLERS: Final[Mapping[TaskState, Callable[[TaskFacts], _Told]]] = {
    _S.PENDING: _pending,
    _S.READY: _under_way,
    _S.RUNNING: _under_way,
    _S.RETRYING: _under_way,
    _S.WAITING: _under_way,
    _S.SUCCESS: _succeeded,
    _S.FAILED: _failed,
    _S.TIMED_OUT: _failed,
    _S.SKIPPED: _skipped,
    _S.UPSTREAM_FAILED: _upstream_failed,
    _S.CANCELLED: _cancelled,
    _S.COMPENSATING: _undone,
    _S.COMPENSATED: _undone,
    _S.COMPENSATION_FAILED: _not_undone,
}
