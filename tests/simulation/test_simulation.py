"""Seeded histories of one instance. `--seed N` replays one, `--seeds N` runs so many."""

import random
from itertools import groupby

import pytest
from simulation.graphs import Act, Story
from simulation.world import World

from taskengine.model.definition import Compensation, TaskSpec, WorkflowDefinition
from taskengine.model.ids import WorkflowId
from taskengine.model.records import Outcome, TaskRow
from taskengine.model.states import InstanceState, TaskState


def history(seed: int) -> World:
    world = World(seed)
    world.run(chaos_steps=random.Random(seed ^ 0x5EED).choice([0, 20, 100, 300]))
    return world


def test_every_seed_ends_and_keeps_the_laws(simulation_seed_option: int | None, simulation_seed_count: int) -> None:
    seeds = [simulation_seed_option] if simulation_seed_option is not None else range(simulation_seed_count)
    crashes = 0
    for seed in seeds:
        try:
            crashes += history(seed).crashes
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}; replay: pytest tests/simulation --seed {seed}")
    assert simulation_seed_option is not None or crashes > 0, "the world was not hostile"


def test_the_same_seed_is_the_same_history() -> None:
    one, two = history(7), history(7)
    assert one.committed.seq == two.committed.seq
    assert one.committed.tasks == two.committed.tasks


@pytest.mark.parametrize("seed", range(12))
def test_a_crash_after_any_commit_loses_nothing(seed: int) -> None:
    quiet = World(seed)
    quiet.run(chaos_steps=0)
    for boundary in range(1, quiet.commits + 1):
        world = World(seed)
        world.crash_after = {boundary, boundary + 3}
        world.run(chaos_steps=0)
        assert world.crashes >= 1


def order(steps: int, failing: int) -> Story:
    """A chain of steps with compensations; the one after `failing` of them fails."""
    tasks = tuple(
        TaskSpec(
            name=f"t{at}",
            job="body",
            depends_on=(f"t{at - 1}",) if at else (),
            compensation=Compensation(job="undo"),
        )
        for at in range(steps)
    )
    acts = tuple((Act(Outcome.FAIL if at == failing else Outcome.OK, retryable=False),) for at in range(steps))
    return Story(WorkflowDefinition(id=WorkflowId("saga"), tasks=tasks), acts, killer=None)


class Saga(World):
    """Notes in which order compensations were begun."""

    def __init__(self, seed: int, story: Story, stuck: int | None) -> None:
        self.begun: list[int] = []
        self.stuck = stuck
        super().__init__(seed, story)

    def check_undo(self, row: TaskRow, attempt: int) -> None:
        super().check_undo(row, attempt)
        self.begun.append(row.ordinal)

    def act(self, ordinal: int) -> Act:
        if not self.plan.ledger.tasks[ordinal].undoing:
            return super().act(ordinal)
        return Act(Outcome.FAIL if ordinal == self.stuck else Outcome.OK, retryable=False)


@pytest.mark.parametrize("steps", range(1, 7))
def test_a_saga_undoes_any_prefix_in_reverse_whatever_step_it_dies_at(steps: int) -> None:
    """Each length, each failing step, none or any compensation that fails for good, a crash after each commit."""
    for failing in range(steps):
        for stuck in (None, *range(failing)):
            quiet = Saga(1, order(steps, failing), stuck)
            quiet.run(chaos_steps=0)
            for boundary in range(quiet.commits + 1):
                saga = Saga(1, order(steps, failing), stuck)
                saga.crash_after = {boundary} if boundary else set()
                saga.run(chaos_steps=0)
                case = (steps, failing, stuck, boundary)
                begun = [ordinal for ordinal, _ in groupby(saga.begun)]
                assert begun == list(reversed(range(failing))), case
                assert len(saga.begun) - len(begun) <= saga.crashes, "only what ran at a crash is begun again"
                assert saga.committed.instance is not None
                final = InstanceState.COMPENSATED if stuck is None else InstanceState.COMPENSATION_FAILED
                assert saga.committed.instance.final is (final if failing else InstanceState.FAILED), case
                undone = [
                    TaskState.COMPENSATED if at != stuck else TaskState.COMPENSATION_FAILED for at in range(failing)
                ]
                assert [saga.committed.state_of(at) for at in range(failing)] == undone, case
