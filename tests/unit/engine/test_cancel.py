from taskengine.clock import Micros
from taskengine.engine.planner import Plan, Shape, decide
from taskengine.model.definition import TaskSpec, WorkflowDefinition, canonical_form, version_of
from taskengine.model.ids import CommandId, InstanceId, Ordinal, WorkflowId
from taskengine.model.messages import Cancel, Granted, Settled, Start
from taskengine.model.records import InstanceRow, Outcome
from taskengine.model.states import InstanceState, TaskState

NOW = Micros(1_700_000_000_000_000)


def test_what_waits_behind_a_cancelled_task_is_cancelled_too_and_not_failed() -> None:
    tasks = tuple(
        TaskSpec(name=name, job="noop", depends_on=needs) for name, needs in [("a", ()), ("b", ("a",)), ("c", ("b",))]
    )
    definition = WorkflowDefinition(id=WorkflowId("w"), tasks=tasks)
    shape = Shape(definition, version_of(canonical_form(definition)))
    row = InstanceRow(id=InstanceId("i"), workflow_id=WorkflowId("w"), version=shape.version)
    plan = Plan.new(shape, row, agenda_limit=1)
    for message in (
        Start(),
        Granted(Ordinal(0), 1),
        Cancel(CommandId("c"), "不要了"),
        Settled(Ordinal(0), 1, Outcome.INTERRUPTED),
    ):
        decide(plan, message, NOW)
    while plan.unfinished_business:
        plan.work(NOW)
    assert [task.state for task in plan.ledger.tasks] == [TaskState.CANCELLED] * 3
    assert plan.ledger.final is InstanceState.CANCELLED
