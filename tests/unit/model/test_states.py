"""The tables of allowed moves."""

import itertools

import pytest

from taskengine.errors import IllegalMove
from taskengine.model.states import (
    BUCKETS,
    INSTANCE_FINAL,
    PHASE_EDGES,
    TASK_BAD,
    TASK_EDGES,
    TASK_FINAL,
    Bucket,
    Hold,
    InstanceState,
    Phase,
    PhaseMove,
    TaskMove,
    TaskState,
    public_state,
    step_phase,
    step_task,
)

# Only these leave a final state: the saga inside a run, and the user's retry, which opens a new one.
WAYS_OUT = {TaskMove.COMPENSATE, TaskMove.RESET, TaskMove.REOPEN, TaskMove.OWE_AGAIN}


def reachable(edges, start):
    found = {start}
    while more := {target for (state, _), target in edges.items() if state in found} - found:
        found |= more
    return found


def test_every_edge_leads_from_a_state_by_a_move_to_a_state() -> None:
    for (state, move), target in TASK_EDGES.items():
        assert (type(state), type(move), type(target)) == (TaskState, TaskMove, TaskState)
    for (phase, move), target in PHASE_EDGES.items():
        assert (type(phase), type(move), type(target)) == (Phase, PhaseMove, Phase)


def test_every_state_can_be_reached_and_every_move_is_used() -> None:
    assert reachable(TASK_EDGES, TaskState.PENDING) == set(TaskState)
    assert reachable(PHASE_EDGES, Phase.NEW) == set(Phase)
    assert {move for _, move in TASK_EDGES} == set(TaskMove)
    assert {move for _, move in PHASE_EDGES} == set(PhaseMove)


def test_every_task_state_can_reach_an_end() -> None:
    for state in TaskState:
        assert reachable(TASK_EDGES, state) & TASK_FINAL
    for phase in Phase:
        assert Phase.END in reachable(PHASE_EDGES, phase)


def test_final_states_are_absorbing_apart_from_named_moves() -> None:
    out = {(state, move) for state, move in TASK_EDGES if state in TASK_FINAL}
    assert {move for _, move in out} == WAYS_OUT
    assert {move for phase, move in PHASE_EDGES if phase is Phase.END} == {PhaseMove.RERUN, PhaseMove.REPAIR}


def test_within_a_run_only_compensation_leaves_a_final_state() -> None:
    within = {edge: target for edge, target in TASK_EDGES.items() if edge[1] not in WAYS_OUT - {TaskMove.COMPENSATE}}
    for state in TASK_FINAL - {TaskState.SUCCESS}:
        targets = {target for (source, _), target in within.items() if source is state}
        assert targets <= {TaskState.COMPENSATING}


def test_a_task_that_never_began_owes_no_compensation() -> None:
    for state in (TaskState.SKIPPED, TaskState.UPSTREAM_FAILED, TaskState.COMPENSATED, TaskState.PENDING):
        assert (state, TaskMove.COMPENSATE) not in TASK_EDGES


def test_only_a_running_or_waiting_body_succeeds() -> None:
    assert {state for state, move in TASK_EDGES if move is TaskMove.SUCCEED} == {TaskState.RUNNING, TaskState.WAITING}
    assert {state for state, move in TASK_EDGES if move is TaskMove.DISPATCH} == {TaskState.READY}


def test_everything_that_has_not_ended_can_be_cancelled() -> None:
    open_states = set(TaskState) - TASK_FINAL - {TaskState.COMPENSATING}
    assert {state for state, move in TASK_EDGES if move is TaskMove.CANCEL} == open_states


def test_bad_states_are_final_and_success_is_not_bad() -> None:
    assert TASK_BAD < TASK_FINAL
    assert TaskState.SUCCESS not in TASK_BAD
    assert TaskState.SKIPPED not in TASK_BAD


def test_a_step_is_the_table_and_nothing_else() -> None:
    for state, move in itertools.product(TaskState, TaskMove):
        if (state, move) in TASK_EDGES:
            assert step_task(state, move) is TASK_EDGES[state, move]
        else:
            with pytest.raises(IllegalMove):
                step_task(state, move)
    for phase, move in itertools.product(Phase, PhaseMove):
        if (phase, move) in PHASE_EDGES:
            assert step_phase(phase, move) is PHASE_EDGES[phase, move]
        else:
            with pytest.raises(IllegalMove, match=f"no move {move} from {phase}"):
                step_phase(phase, move)


def test_each_state_counts_in_exactly_one_number() -> None:
    assert set(BUCKETS) == set(TaskState)
    assert set(BUCKETS.values()) == set(Bucket)
    assert [bucket.value for bucket in Bucket] == [
        "completed", "failed", "running", "pending", "skipped", "cancelled", "compensation"
    ]  # fmt: skip


@pytest.mark.parametrize(("phase", "hold"), sorted(itertools.product(set(Phase) - {Phase.END}, Hold)))
def test_what_users_see_is_defined_for_every_phase_and_hold(phase: Phase, hold: Hold) -> None:
    seen = public_state(phase, hold, None)
    assert seen not in INSTANCE_FINAL
    if hold is Hold.PAUSED:
        assert seen is InstanceState.PAUSED
    elif hold is Hold.QUARANTINED:
        assert seen is InstanceState.QUARANTINED


@pytest.mark.parametrize("final", sorted(INSTANCE_FINAL))
def test_at_the_end_users_see_how_it_ended(final: InstanceState) -> None:
    assert {public_state(Phase.END, hold, final) for hold in Hold} == {final}


def test_every_public_state_can_be_seen() -> None:
    seen = {public_state(phase, hold, None) for phase in set(Phase) - {Phase.END} for hold in Hold}
    assert seen | INSTANCE_FINAL == set(InstanceState)
