"""taskengine/cli/live/board.py and status.py: what is shown is what was committed, within the room there is."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from taskengine.api.shapes import progress_body
from taskengine.api.stream.frames import event_frames
from taskengine.cli.live.board import Board
from taskengine.cli.live.status import (
    Style,
    clock_text,
    end_lines,
    fitting_lines,
    header_lines,
    span_text,
    tally,
    task_lines,
)
from taskengine.clock import Micros
from taskengine.model.events import Event, EventBody, Transition
from taskengine.model.ids import InstanceId, Ordinal, WorkflowId
from taskengine.model.progress import Progress
from taskengine.model.states import BUCKETS, Bucket, InstanceState, TaskMove, TaskState
from taskengine.wire import InstanceBody, ProgressUpdate, Snapshot, StreamFrame, TaskBody

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = Micros(round(START.timestamp()) * 1_000_000)
ONE = InstanceId("0192f3c1-0000-7000-8000-000000000001")
WIDE = Style(width=None)
NOTHING = Progress()


def after(seconds: float) -> Micros:
    return Micros(START_US + round(seconds * 1_000_000))


def instance(total: int, name: str = "daily-sync") -> InstanceBody:
    return InstanceBody(
        id=ONE,
        workflow_id="daily",
        workflow_name=name,
        version="3f2a91c" + "0" * 57,
        status="Running",
        run=1,
        progress=progress_body(Progress(pending=total)),
        params={},
        created_at=START,
        started_at=START,
    )


def task(name: str, *depends_on: str, reason: str = "", status: str = "Pending", attempt: int = 0) -> TaskBody:
    return TaskBody(
        name=name,
        status=status,
        job="noop",
        depends_on=list(depends_on),
        attempt=attempt,
        tries=0,
        reason=reason or None,
    )


def board_of(*tasks: TaskBody, name: str = "daily-sync") -> Board:
    return Board(instance(len(tasks), name), tasks)


def event(
    at_s: float,
    *transitions: Transition,
    state: InstanceState = InstanceState.RUNNING,
    progress: Progress = NOTHING,
    reason: str = "",
) -> Sequence[StreamFrame]:
    """The frames of one event, as every stream says them."""
    body = EventBody(state=state, transitions=transitions, progress=progress, reason=reason, changed=True)
    return event_frames(Event(instance_id=ONE, workflow_id=WorkflowId("daily"), seq=1, at_us=after(at_s), body=body))


def moved(ordinal: int, name: str, state: TaskState, attempt: int = 1, reason: str = "") -> Transition:
    move = {TaskState.RUNNING: TaskMove.DISPATCH, TaskState.SUCCESS: TaskMove.SUCCEED}.get(state, TaskMove.GIVE_UP)
    return Transition(Ordinal(ordinal), name, move, state, attempt, reason)


def shown(board: Board, now_s: float, style: Style = WIDE) -> list[str]:
    lines = sorted(board.lines.values(), key=lambda line: line.ordinal)
    now_us = after(now_s)
    return [
        text.plain for text in (*header_lines(board.header, now_us, style), *task_lines(board, lines, now_us, style))
    ]


def test_the_status_looks_as_promised() -> None:
    board = board_of(task("calendar"), task("stocks"), task("load", "stocks"), task("report", "load"), task("mail"))
    board.allow_tries("load", 4)
    board.apply(event(0, moved(0, "calendar", TaskState.RUNNING), moved(1, "stocks", TaskState.RUNNING)))
    board.apply(event(0.5, moved(0, "calendar", TaskState.SUCCESS)))
    board.apply(event(1.2, moved(1, "stocks", TaskState.SUCCESS)))
    board.apply(event(147.7, moved(2, "load", TaskState.RUNNING, attempt=2)))
    progress = Progress(completed=2, failed=1, running=1, pending=1)
    board.apply(event(149, moved(4, "mail", TaskState.FAILED, reason="ValueError: no"), progress=progress))
    assert shown(board, 150) == [
        "Instance  0192f3c1-0000-7000-8000-000000000001   Workflow  daily-sync (v 3f2a91c)",
        "Status    Running        Progress  3/5 (60%)   Elapsed 00:02:30",
        "  ✔ calendar   Success            0.5s",
        "  ✔ stocks     Success            1.2s",
        "  ● load       Running            2.3s   attempt 2/4",
        "  ○ report     Pending                   waits for load",
        "  ✖ mail       Failed                    ValueError: no",
    ]


def test_progress_of_a_job_is_shown_while_it_runs() -> None:
    board = board_of(task("load"))
    board.apply(event(0, moved(0, "load", TaskState.RUNNING)))
    said = ProgressUpdate(
        instance_id=ONE, workflow_id="w", task_id="load", fraction=0.25, message="rows\x1b[2J", timestamp=START
    )
    assert [line.name for line in board.apply([said])] == ["load"]
    assert shown(board, 1)[-1].endswith("25% rows\\x1b[2J")
    board.apply(event(2, moved(0, "load", TaskState.SUCCESS)))
    assert "25%" not in shown(board, 3)[-1]


def test_an_ended_instance_has_a_reason_and_its_clock_stands() -> None:
    board = board_of(task("load"))
    board.apply(event(5, state=InstanceState.FAILED, reason="task 'load' failed"))
    assert shown(board, 500)[1].endswith("Elapsed 00:00:05")
    assert shown(board, 500)[2] == "Reason    task 'load' failed"


def test_a_reason_that_only_names_the_move_is_not_shown() -> None:
    assert shown(board_of(task("load", reason="offer")), 0)[-1] == "  ○ load   Pending"


def test_many_dependencies_are_counted() -> None:
    names = [f"t{n}" for n in range(6)]
    board = board_of(*(task(name) for n, name in enumerate(names)), task("last", *names))
    board.apply(event(0, moved(0, "t0", TaskState.SUCCESS)))
    assert shown(board, 0)[-1].endswith("waits for t1, t2, t3 and 2 more")


def test_wide_names_are_aligned_and_hostile_ones_cleaned() -> None:
    lines = shown(board_of(task("获取数据"), task("x\x1b[31m"), task("load"), name="每日\x1b]0;x\x07"), 0)
    assert {cell_len(line[: line.index("Pending")]) for line in lines[2:]} == {15}
    assert not any("\x1b" in line for line in lines)


def test_where_unicode_cannot_be_written_glyphs_are_plain() -> None:
    lines = shown(board_of(task("load")), 0, Style(width=None, unicode=False))
    assert lines[-1] == "  o load   Pending"


@given(
    st.lists(st.text(st.sampled_from("ab获取\x1b—"), min_size=1, max_size=60), min_size=1, max_size=8, unique=True),
    st.integers(20, 120),
)
def test_no_line_is_wider_than_the_terminal(names: list[str], width: int) -> None:
    board = board_of(*(task(name) for n, name in enumerate(names)), name="n" * 200)
    board.apply(event(1, state=InstanceState.FAILED, reason="r" * 300))
    assert all(cell_len(line) <= width for line in shown(board, 1, Style(width=width)))


def graph_of(states: Sequence[TaskState]) -> Board:
    board = board_of(*(task(f"t{n}") for n in range(len(states))))
    moves = [moved(n, f"t{n}", state) for n, state in enumerate(states) if state is not TaskState.PENDING]
    counts = dict.fromkeys(Bucket, 0)
    for state in states:
        counts[BUCKETS[state]] += 1
    board.apply(event(1, *moves, progress=Progress.of(list(counts.values()))))
    return board


@given(
    st.lists(st.sampled_from([TaskState.PENDING, TaskState.RUNNING, TaskState.FAILED, TaskState.SUCCESS]), max_size=60),
    st.integers(1, 30),
)
def test_as_many_lines_as_fit_and_what_matters_first(states: list[TaskState], rows: int) -> None:
    board = graph_of(states)
    chosen = fitting_lines(board, rows)
    assert len(chosen) == min(rows, len(states))
    assert [line.ordinal for line in chosen] == sorted({line.ordinal for line in chosen})
    if TaskState.RUNNING in states:
        assert any(line.state is TaskState.RUNNING for line in chosen)
    if TaskState.FAILED in states and rows > 2:
        assert any(line.state is TaskState.FAILED for line in chosen)


def test_the_tally_counts_what_is_not_shown() -> None:
    board = graph_of([TaskState.SUCCESS] * 1500 + [TaskState.FAILED, TaskState.PENDING])
    assert tally(board, 1499, WIDE).plain == "  … 1,499 more of 1,502:  1,500 ✔  1 ✖  1 ○"


def test_at_the_end_of_a_big_graph_only_what_did_not_succeed_is_listed() -> None:
    small = graph_of([TaskState.SUCCESS] * 40)
    big = graph_of([TaskState.SUCCESS] * 100 + [TaskState.FAILED] + [TaskState.CANCELLED])
    assert len(end_lines(small)) == 40
    assert [line.name for line in end_lines(big)] == ["t100", "t101"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (0.49, "0.5s"), (59.94, "59.9s"), (59.96, "1m00s"), (125, "2m05s"), (3719, "1h01m")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span_text(round(seconds * 1_000_000)) == text


def test_the_clock_counts_hours_beyond_a_day() -> None:
    assert clock_text(100 * 3600 * 1_000_000) == "100:00:00"


def test_a_task_that_begins_and_ends_in_one_event_is_one_line_of_news() -> None:
    board = board_of(task("短"))
    news = board.apply(event(1, moved(0, "短", TaskState.RUNNING), moved(0, "短", TaskState.SUCCESS)))
    assert [(line.name, line.state) for line in news] == [("短", TaskState.SUCCESS)]


def test_a_snapshot_after_a_gap_tells_what_has_changed_meanwhile() -> None:
    board = board_of(task("a"), task("b"), task("c"))
    board.apply(event(1, moved(0, "a", TaskState.SUCCESS)))
    fresh = [task("a", status="Success", attempt=1), task("b", status="Failed", attempt=2), task("c")]
    news = board.apply([Snapshot(instances=[instance(3)], tasks=fresh, timestamp=START)])
    assert [(line.name, line.state, line.attempt) for line in news] == [("b", TaskState.FAILED, 2)]


def test_a_snapshot_of_other_instances_changes_nothing() -> None:
    board = board_of(task("a"))
    assert board.apply([Snapshot(instances=[], tasks=[task("a", status="Failed", attempt=1)], timestamp=START)]) == []
    assert shown(board, 0)[-1] == "  ○ a   Pending"


def test_an_instance_that_runs_again_has_no_end() -> None:
    board = board_of(task("a"))
    board.apply(event(5, state=InstanceState.FAILED, reason="no"))
    board.apply(event(7, state=InstanceState.RUNNING))
    assert shown(board, 60)[1].endswith("Elapsed 00:01:00")


def test_frames_that_are_older_than_the_snapshot_change_nothing() -> None:
    board = board_of(task("a", status="Success", attempt=1))
    stale = event(1, moved(0, "a", TaskState.RUNNING), moved(0, "a", TaskState.SUCCESS))
    assert board.apply(stale) == []
    assert board.lines[0].state is TaskState.SUCCESS
    again = board.apply(event(2, moved(0, "a", TaskState.RUNNING, attempt=2)))
    assert [(line.state, line.attempt) for line in again] == [(TaskState.RUNNING, 2)]
