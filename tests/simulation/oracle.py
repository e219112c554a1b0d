"""What the engine should do, said a second time and as simply as possible: triggers, and the end of a whole graph."""

from collections.abc import Callable, Sequence

from simulation.graphs import Story

from taskengine.model.definition import TaskSpec, Trigger
from taskengine.model.records import Outcome
from taskengine.model.states import TaskState

S = TaskState
FAILED = (S.FAILED, S.TIMED_OUT)


def kind(spec: TaskSpec, state: TaskState) -> str:
    if state is S.SUCCESS or (spec.continue_on_failure and state in FAILED):
        return "ok"
    if state is S.SKIPPED:
        return "skipped"
    if state in (*FAILED, S.UPSTREAM_FAILED, S.CANCELLED):
        return "bad"
    return "open"


def verdict(trigger: Trigger, kinds: Sequence[str]) -> str:
    """One of wait, run, block, skip: the table of triggers, line by line."""
    settled = "open" not in kinds
    ok, bad, skipped = "ok" in kinds, "bad" in kinds, "skipped" in kinds
    table: dict[Trigger, list[tuple[str, Callable[[], bool]]]] = {
        Trigger.ALL_SUCCESS: [
            ("block", lambda: bad),
            ("skip", lambda: settled and skipped),
            ("run", lambda: settled),
        ],
        Trigger.NONE_FAILED: [
            ("block", lambda: bad),
            ("skip", lambda: settled and bool(kinds) and not ok),
            ("run", lambda: settled),
        ],
        Trigger.ALL_DONE: [("run", lambda: settled)],
        Trigger.ONE_SUCCESS: [
            ("run", lambda: ok),
            ("block", lambda: settled and bad),
            ("skip", lambda: settled),
        ],
        Trigger.ONE_FAILED: [("run", lambda: bad), ("skip", lambda: settled)],
    }
    return next((answer for answer, holds in table[trigger] if holds()), "wait")


def expected_states(story: Story) -> list[TaskState]:
    """How every task ends with on_failure: continue, when nobody interferes. Tasks are in topological order."""
    states: list[TaskState] = []
    specs = story.definition.tasks
    numbers = {spec.name: number for number, spec in enumerate(specs)}
    for number, spec in enumerate(specs):
        kinds = [kind(specs[numbers[name]], states[numbers[name]]) for name in spec.depends_on]
        match verdict(spec.trigger, kinds):
            case "run":
                states.append(_body(story, number))
            case "block":
                states.append(S.UPSTREAM_FAILED)
            case "skip":
                states.append(S.SKIPPED)
            case other:
                raise AssertionError(other)
    return states


def _body(story: Story, number: int) -> TaskState:
    spec = story.definition.tasks[number]
    allowed = 1 + (spec.retry.count if spec.retry else 0)
    for tries in range(allowed):
        act = story.act(number, tries)
        last = tries == allowed - 1 or not act.retryable
        match act.outcome:
            case Outcome.OK | Outcome.PARK:
                return S.SUCCESS
            case Outcome.SKIP:
                return S.SKIPPED
            case Outcome.FAIL if last:
                return S.FAILED
            case Outcome.TIMEOUT if last:
                return S.TIMED_OUT
    raise AssertionError("a body must end somehow")
