"""What `taskengine instance list` and `status` do: committed state, read beside whoever owns the store."""

import asyncio
from typing import Final

from taskengine.ambient import Ambient
from taskengine.cli.detail import instance_data, instance_detail
from taskengine.cli.listing import show_table
from taskengine.cli.live.board import Board, Header
from taskengine.cli.live.painters import show_status
from taskengine.cli.live.status import span_text
from taskengine.cli.local.finding import find_instance, list_instances
from taskengine.cli.local.goingon import tries_allowed
from taskengine.cli.local.reading import looking
from taskengine.cli.local.runs import RunRecord, Runs
from taskengine.cli.output import Format, write_data
from taskengine.cli.problems import say
from taskengine.engine.views import InstanceView
from taskengine.errors import InvalidConfiguration
from taskengine.model.spelling import did_you_mean, quoted
from taskengine.model.states import InstanceState

__all__ = ["list_runs", "show_run"]

_LIVE: Final = (InstanceState.PENDING, InstanceState.RUNNING)
_HEADS: Final = ("ID", "WORKFLOW", "STATUS", "PROGRESS", "STARTED (UTC)", "DURATION")


def list_runs(
    ambient: Ambient | None,
    *,
    status: str | None,
    workflow: str | None,
    limit: int,
    dsn: str,
    output: Format | None,
) -> None:
    """Newest first. Raises InvalidConfiguration when `status` names no state."""
    states = () if status is None else (_state(status),)
    found = asyncio.run(_list(ambient or Ambient(), dsn, states, workflow, limit))
    form = output or Format.TABLE
    if form is Format.TABLE and not found:
        say("There are no such runs. Start one:  taskengine run FILE")
        return
    write_data(
        [instance_data(view) for _, view in found],
        form,
        table=lambda stream: show_table(_HEADS, [_row(view) for _, view in found], stream),
    )
    if form is Format.TABLE:
        _say_what_is_left_lying(found)


def _state(typed: str) -> InstanceState:
    states = {state.value.lower(): state for state in InstanceState}
    if typed.lower() in states:
        return states[typed.lower()]
    names = [state.value for state in InstanceState]
    hint = did_you_mean(typed, names) or f"; there are {', '.join(names)}"
    raise InvalidConfiguration(f"--status: there is no state {quoted(typed)}{hint}")


async def _list(
    ambient: Ambient, dsn: str, states: tuple[InstanceState, ...], workflow: str | None, limit: int
) -> list[tuple[RunRecord, InstanceView]]:
    found: list[tuple[RunRecord, InstanceView]] = []
    async for pair in list_instances(Runs(), dsn, ambient, states=states, workflow=workflow):
        found.append(pair)
        if len(found) == limit:
            break
    return found


def _say_what_is_left_lying(found: list[tuple[RunRecord, InstanceView]]) -> None:
    """A run whose process died is Running, as far as its store knows, until somebody goes on with it."""
    runs = Runs()
    for record, view in found:
        if view.status in _LIVE and runs.seems_abandoned(record):
            say(f"No process runs {view.id} now. Go on with it:  taskengine run --resume {view.id}")


def _row(view: InstanceView) -> list[str]:
    progress = view.progress
    return [
        view.id,
        view.workflow_id,
        view.status.value,
        f"{progress.settled}/{progress.total}",
        "" if view.started_at is None else view.started_at.strftime("%Y-%m-%d %H:%M"),
        "" if view.duration_s is None else span_text(round(view.duration_s * 1_000_000)),
    ]


def show_run(ambient: Ambient | None, prefix: str, *, dsn: str, output: Format | None) -> None:
    """The instance whose id begins so, with its tasks."""
    asyncio.run(_status(ambient or Ambient(), prefix, dsn, output or Format.TABLE))


async def _status(ambient: Ambient, prefix: str, dsn: str, form: Format) -> None:
    record, view = await find_instance(Runs(), prefix, dsn, ambient)
    async with looking(record.dsn, ambient) as look:
        tasks = await look.reading.tasks(record.id)
        result = await look.reading.result(record.id)
        tries = tries_allowed(await look.definition_of(record.id))
    board = Board(Header(view), tasks)
    for name, allowed in tries.items():
        board.allow_tries(name, allowed)
    write_data(
        instance_detail(view, tasks, result),
        form,
        table=lambda stream: show_status(board, ambient.clock.now_us(), stream),
    )
    if form is Format.TABLE:
        _say_what_is_left_lying([(record, view)])
