"""Why a whole instance is where it is. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

from taskengine.engine.explanation.facts import InstanceFacts
from taskengine.engine.explanation.releasing import deadline, from_hold, of_tasks, retry_all
from taskengine.engine.explanation.wording import begin_with, causes, one_line, sentence, several
from taskengine.model.states import INSTANCE_FINAL, InstanceState, Phase
from taskengine.wire import Explanation, Release

__all__ = ["explain_instance"]

_I = InstanceState


def explain_instance(facts: InstanceFacts) -> Explanation:
    instance = facts.instance
    return Explanation(
        instance_id=instance.id,
        instance_status=instance.state.value,
        task=None,
        status=instance.state.value,
        why=sentence(_WORDS[instance.state](facts)),
        because=causes(facts.tasks),
        more=max(0, facts.total - len(facts.tasks)),
        releases=_releases(facts),
    )


def _releases(facts: InstanceFacts) -> list[Release]:
    instance = facts.instance
    if instance.state in INSTANCE_FINAL:
        return retry_all(instance)
    return [*from_hold(instance), *of_tasks(instance, facts.tasks), *deadline(instance)]


def _running(facts: InstanceFacts) -> str:
    match facts.instance.phase:
        case Phase.CANCEL:
            return f"the instance is being cancelled ({_error(facts)}); {_who_is_left(facts)}"
        case Phase.DRAIN:
            return f"the instance is ending, for {_error(facts)}; {_who_is_left(facts)}"
        case _:
            return _who_is_left(facts)


def _who_is_left(facts: InstanceFacts) -> str:
    open_ones = facts.progress.open
    if not facts.tasks:
        return f"{several(open_ones, 'task')} have not ended" if open_ones > 1 else "the instance is about to go on"
    first = begin_with(facts.tasks[0])
    behind = open_ones - facts.total
    if facts.total == 1:
        return first if behind <= 0 else f"{first}, and {several(behind, 'task')} behind it"
    others = "" if behind <= 0 else f", and {several(behind, 'task')} behind them"
    return f"{facts.total:,} tasks hold it up{others}; the first: {first}"


def _paused(facts: InstanceFacts) -> str:
    left = f"; what has begun may finish: {_who_is_left(facts)}" if facts.progress.running else ""
    return f"the instance is paused, so nothing new begins{left}"


def _quarantined(facts: InstanceFacts) -> str:
    note = one_line(facts.note)
    about = f": {note}" if note else ""
    return f"the instance is in quarantine, so that it does no more harm, and nothing of it begins{about}"


def _error(facts: InstanceFacts) -> str:
    return one_line(facts.instance.error) or "no reason was given"


_WORDS: Final[Mapping[InstanceState, Callable[[InstanceFacts], str]]] = {
    _I.PENDING: lambda facts: "the instance has not begun",
    _I.RUNNING: _running,
    _I.PAUSED: _paused,
    _I.QUARANTINED: _quarantined,
    _I.COMPENSATING: lambda facts: f"what the instance has done is being undone, the last first, for {_error(facts)}",
    _I.SUCCESS: lambda facts: "the instance has ended well, and waits for nothing",
    _I.FAILED: lambda facts: f"the instance failed: {_error(facts)}",
    _I.TIMED_OUT: lambda facts: f"the instance timed out: {_error(facts)}",
    _I.CANCELLED: lambda facts: f"the instance was cancelled: {_error(facts)}",
    _I.COMPENSATED: lambda facts: f"what the instance had done was undone, for {_error(facts)}",
    _I.COMPENSATION_FAILED: lambda facts: f"the instance could not be undone as a whole: {_error(facts)}",
}
