"""`taskengine instance pause`, `resume`, `cancel`, `retry`.

They take the store's lock and run the engine in this process until the instance rests. While another process has the
store they are refused with its pid.
"""

import asyncio
import os
from collections.abc import Collection, Sequence

import click

from taskengine.ambient import Ambient
from taskengine.cli.finding import find_instance
from taskengine.cli.goingon import EngineFlags, go_on
from taskengine.cli.options import db_option, engine_options, id_argument
from taskengine.cli.output import Format, output_options
from taskengine.cli.report import report_ending, show_ending
from taskengine.cli.runs import RunRecord, Runs
from taskengine.cli.safe import clean_lines
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.cli.work import Change, Ending, change_once, make_builder
from taskengine.engine.engine import Engine
from taskengine.errors import NotFound
from taskengine.model.ids import InstanceId
from taskengine.model.spelling import did_you_mean
from taskengine.model.states import InstanceState
from taskengine.telemetry.logs import set_up_logging

__all__ = ["cancel_command", "pause_command", "resume_command", "retry_command"]


@click.command("pause", short_help="let nothing new of a run start")
@id_argument
@click.option("--now", is_flag=True, help="Interrupt running tasks; they run again after the resume.")
@db_option
@output_options
@click.pass_obj
def pause_command(ambient: Ambient | None, prefix: str, now: bool, dsn: str, output: Format | None) -> None:
    """Pause a run: nothing new starts until `instance resume`."""

    async def pause(engine: Engine, instance_id: InstanceId) -> None:
        await engine.pause_instance(instance_id, now=now)

    _change(ambient or Ambient(), prefix, dsn, output, pause)


@click.command("cancel", short_help="end a run")
@id_argument
@click.option("--reason", default="", metavar="TEXT", help="Is kept with the instance.")
@db_option
@output_options
@click.pass_obj
def cancel_command(ambient: Ambient | None, prefix: str, reason: str, dsn: str, output: Format | None) -> None:
    """End a run: nothing new starts, what runs is cancelled."""

    async def cancel(engine: Engine, instance_id: InstanceId) -> None:
        await engine.cancel_instance(instance_id, reason)

    _change(ambient or Ambient(), prefix, dsn, output, cancel)


@click.command("resume", short_help="go on with a paused run")
@id_argument
@engine_options
@db_option
@output_options
@click.pass_obj
def resume_command(
    ambient: Ambient | None,
    prefix: str,
    apps: Sequence[str],
    workers: int | None,
    follow: bool,
    log_level: str,
    dsn: str,
    output: Format | None,
) -> int:
    """Go on with a run that is paused or was cut short, in this process, until it rests."""
    set_up_logging(log_level, clean_lines)
    flags = EngineFlags(apps=tuple(os.path.abspath(app) for app in apps), workers=workers, follow=follow)
    return _go_on(ambient or Ambient(), prefix, dsn, flags, output, _resume)


async def _resume(engine: Engine, instance_id: InstanceId) -> None:
    """One that was only cut short is going on already. Raises Conflict for one that has ended."""
    view = await engine.get_instance(instance_id)
    if view.status not in (InstanceState.PENDING, InstanceState.RUNNING):
        await engine.resume_instance(instance_id)


@click.command("retry", short_help="run again what failed")
@id_argument
@click.option("--from", "from_task", metavar="TASK", help="Run TASK and everything below it again.")
@click.option("--only", "only_task", metavar="TASK", help="Run TASK again and nothing else.")
@engine_options
@db_option
@output_options
@click.pass_context
def retry_command(
    context: click.Context,
    prefix: str,
    from_task: str | None,
    only_task: str | None,
    apps: Sequence[str],
    workers: int | None,
    follow: bool,
    log_level: str,
    dsn: str,
    output: Format | None,
) -> int:
    """Run again what failed, keeping every success, in this process, until the run rests.

    \b
    taskengine instance retry 0192f3c1
    taskengine instance retry 0192f3c1 --from load --app jobs.py
    """
    if from_task is not None and only_task is not None:
        raise click.UsageError("--from and --only exclude each other", context)
    set_up_logging(log_level, clean_lines)
    task = from_task or only_task

    async def retry(engine: Engine, instance_id: InstanceId) -> None:
        if task is not None:
            _must_have(task, [view.name for view in await engine.get_tasks(instance_id)])
        await engine.retry_instance(instance_id, from_task=from_task, only_task=only_task)

    flags = EngineFlags(apps=tuple(os.path.abspath(app) for app in apps), workers=workers, follow=follow)
    return _go_on(context.obj or Ambient(), prefix, dsn, flags, output, retry)


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

    with stdout_kept_for_data():
        ending = asyncio.run(find_and_change())
    show_ending(ending, output or Format.TABLE, ambient.clock)
