"""`taskengine run FILE`: one workflow to its end, in this process, on a store of its own."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from taskengine.ambient import Ambient
from taskengine.cli.definitions import STDIN, load_definition
from taskengine.cli.finding import find_instance, newest_unfinished, prune
from taskengine.cli.goingon import EngineFlags, go_on, lift_pause, tries_allowed
from taskengine.cli.options import db_option, engine_options
from taskengine.cli.output import Format, output_options
from taskengine.cli.report import report_ending
from taskengine.cli.runs import RunRecord, Runs, lasting_dsn
from taskengine.cli.safe import clean_lines
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.cli.work import Ending, Watching, make_builder, work
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import WorkflowDefinition
from taskengine.model.ids import InstanceId
from taskengine.model.params import bind_params, parse_assignments
from taskengine.telemetry.logs import set_up_logging

__all__ = ["command"]

_NEWEST: Final = ""


@click.command("run", short_help="run a workflow file to its end")
@click.argument("file", required=False)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=_NEWEST,
    default=None,
    metavar="[ID]",
    help="Go on with a run that was cut short; without ID the newest one.",
)
@engine_options
@db_option
@output_options
@click.pass_context
def command(
    context: click.Context,
    file: str | None,
    params: Sequence[str],
    resume: str | None,
    apps: Sequence[str],
    workers: int | None,
    follow: bool,
    log_level: str,
    dsn: str,
    output: Format | None,
) -> int:
    """Run a workflow file to its end. `-` reads stdin.

    \b
    taskengine run workflow.yaml -p date=20260731 --app jobs.py
    taskengine run workflow.yaml --json > run.json
    taskengine run --resume

    Progress goes to stderr. The results of the tasks on which nothing depends go to stdout, as a JSON object by
    task name; `-o` prints the instance with all its tasks instead. Ctrl-C saves the work, `--resume` goes on with it.
    """
    set_up_logging(log_level, clean_lines)
    ambient = context.obj or Ambient()
    flags = EngineFlags(apps=tuple(os.path.abspath(app) for app in apps), workers=workers, follow=follow)
    _refuse_contradictions(context, file, resume, params)
    with stdout_kept_for_data():
        if file is None:
            record, ending = asyncio.run(_resume(ambient, resume or _NEWEST, dsn, flags))
        else:
            record, ending = _start(ambient, file, params, dsn, flags)
    return report_ending(ending, record, output, ambient.clock)


def _refuse_contradictions(context: click.Context, file: str | None, resume: str | None, params: Sequence[str]) -> None:
    if file is None and resume is None:
        raise click.UsageError("which file? `taskengine run FILE`, or `taskengine run --resume`", context)
    if file is not None and resume is not None:
        raise click.UsageError("--resume goes on with an earlier run and takes no FILE", context)
    if resume is not None and params:
        raise click.UsageError("--resume keeps the params the run was started with; -p cannot change them", context)


def _start(
    ambient: Ambient, file: str, params: Sequence[str], dsn: str, flags: EngineFlags
) -> tuple[RunRecord, Ending]:
    """Whatever can be wrong with the input is found before anything is made."""
    runs = Runs()
    record = runs.plan(
        InstanceId(ambient.ids.uuid7()),
        ambient.clock.now_us(),
        dsn=lasting_dsn(dsn) if dsn else None,
        apps=flags.apps,
        workers=flags.workers,
        file="" if file == STDIN else os.path.abspath(file),
    )
    builder = make_builder(ambient, record.dsn or dsn, flags.apps, flags.workers)
    definition = load_definition(file, builder.build().registry.names())
    given = parse_assignments(definition.params, params)
    bind_params(definition.params, given)
    if record.dsn:
        runs.create(record)
    return record, asyncio.run(_run(ambient, runs, record, builder, definition, given, flags))


async def _run(
    ambient: Ambient,
    runs: Runs,
    record: RunRecord,
    builder: EngineBuilder,
    definition: WorkflowDefinition,
    params: Mapping[str, Any],
    flags: EngineFlags,
) -> Ending:
    await prune(runs, ambient)

    async def begin(engine: Engine, instance_id: InstanceId) -> None:
        await engine.execute_workflow(definition, params, instance_id=instance_id)

    watching = Watching(instance_id=record.id, tries_allowed=tries_allowed(definition), logs=flags.follow)
    return await work(builder, begin, watching, ambient.clock)


async def _resume(ambient: Ambient, prefix: str, dsn: str, flags: EngineFlags) -> tuple[RunRecord, Ending]:
    """An instance that has ended already is only shown."""
    runs = Runs()
    if prefix == _NEWEST:
        record, _ = await newest_unfinished(runs, dsn, ambient)
    else:
        record, _ = await find_instance(runs, prefix, dsn, ambient)

    return record, await go_on(ambient, runs, record, flags, lift_pause)
