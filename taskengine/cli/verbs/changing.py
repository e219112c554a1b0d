"""What `taskengine instance pause`, `cancel`, `resume` and `retry` do."""

import asyncio
from collections.abc import Collection, Sequence

from taskengine.ambient import Ambient
from taskengine.cli.local.finding import find_instance
from taskengine.cli.local.goingon import EngineFlags, engine_flags, go_on
from taskengine.cli.local.runs import RunRecord, Runs
from taskengine.cli.local.work import Change, Ending, change_once, make_builder
from taskengine.cli.output import Format
from taskengine.cli.safe import clean_lines
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.cli.verbs.report import report_ending, show_ending
from taskengine.engine.engine import Engine
from taskengine.errors import NotFound
from taskengine.model.ids import InstanceId
from taskengine.model.spelling import did_you_mean
from taskengine.model.states import InstanceState
from taskengine.telemetry.logs import set_up_logging

__all__ = ["cancel", "pause", "resume", "retry"]


def pause(ambient: Ambient | None, prefix: str, *, now: bool, dsn: str, output: Format | None) -> None:
    """`now` also interrupts what runs."""

    async def change(engine: Engine, instance_id: InstanceId) -> None:
        await engine.pause_instance(instance_id, now=now)

    _change(ambient or Ambient(), prefix, dsn, output, change)


def cancel(ambient: Ambient | None, prefix: str, *, reason: str, dsn: str, output: Format | None) -> None:
    async def change(engine: Engine, instance_id: InstanceId) -> None:
        await engine.cancel_instance(instance_id, reason)

    _change(ambient or Ambient(), prefix, dsn, output, change)


def resume(
    ambient: Ambient | None,
    prefix: str,
    *,
    apps: Sequence[str],
    workers: int | None,
    follow: bool,
    log_level: str,
    dsn: str,
    output: Format | None,
) -> int:
    """One that was only cut short is going on as soon as the engine starts. Raises Conflict for one that has ended."""

    async def change(engine: Engine, instance_id: InstanceId) -> None:
        view = await engine.get_instance(instance_id)
        if view.status not in (InstanceState.PENDING, InstanceState.RUNNING):
            await engine.resume_instance(instance_id)

    set_up_logging(log_level, clean_lines)
    return _go_on(ambient or Ambient(), prefix, dsn, engine_flags(apps, workers, follow), output, change)


def retry(
    ambient: Ambient | None,
    prefix: str,
    from_task: str | None,
    only_task: str | None,
    *,
    apps: Sequence[str],
    workers: int | None,
    follow: bool,
    log_level: str,
    dsn: str,
    output: Format | None,
) -> int:
    """What failed, or `from_task` and all below, or `only_task`. Raises NotFound for a task that is not there."""
    task = from_task if from_task is not None else only_task

    async def change(engine: Engine, instance_id: InstanceId) -> None:
        if task is not None:
            _must_have(task, [view.name for view in await engine.get_tasks(instance_id)])
        await engine.retry_instance(instance_id, from_task=from_task, only_task=only_task)

    set_up_logging(log_level, clean_lines)
    return _go_on(ambient or Ambient(), prefix, dsn, engine_flags(apps, workers, follow), output, change)


def _must_have(task: str, names: Collection[str]) -> None:
    if task not in names:
        raise NotFound("task", task, did_you_mean(task, names).removeprefix(", "))


def _go_on(ambient: Ambient, prefix: str, dsn: str, flags: EngineFlags, output: Format | None, change: Change) -> int:
    runs = Runs()

    async def find_and_go_on() -> tuple[RunRecord, Ending]:
        record, _ = await find_instance(runs, prefix, dsn, ambient)
        return record, await go_on(ambient, runs, record, flags, change)

    with stdout_kept_for_data():
        record, ending = asyncio.run(find_and_go_on())
    return report_ending(ending, record, output, ambient.clock)


def _change(ambient: Ambient, prefix: str, dsn: str, output: Format | None, change: Change) -> None:
    async def find_and_change() -> Ending:
        record, _ = await find_instance(Runs(), prefix, dsn, ambient)
        # With its job files, although nothing of it is wanted to run: a task that was offered may start before the
        # command is heard, and must find its function.
        return await change_once(make_builder(ambient, record.dsn, record.apps, record.workers), record.id, change)

    set_up_logging("warning", clean_lines)
    with stdout_kept_for_data():
        ending = asyncio.run(find_and_change())
    show_ending(ending, output or Format.TABLE, ambient.clock)
