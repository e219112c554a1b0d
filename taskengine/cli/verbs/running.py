"""What `taskengine run` does: one workflow to its end, in this process, on a store of its own."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskengine.ambient import Ambient
from taskengine.cli.local.definitions import STDIN, load_definition
from taskengine.cli.local.finding import find_instance, newest_unfinished, prune
from taskengine.cli.local.goingon import EngineFlags, engine_flags, go_on, lift_pause, tries_allowed
from taskengine.cli.local.runs import RunRecord, Runs, lasting_dsn
from taskengine.cli.local.work import Ending, Watching, make_builder, work
from taskengine.cli.output import Format
from taskengine.cli.safe import clean_lines
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.cli.verbs.report import report_ending
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.definition import WorkflowDefinition
from taskengine.model.ids import InstanceId
from taskengine.model.params import bind_params, parse_assignments
from taskengine.telemetry.logs import set_up_logging

__all__ = ["NEWEST", "resume", "run"]

NEWEST: Final = ""
"""Instead of the beginning of an id: the newest run that can go on."""


def run(
    ambient: Ambient | None,
    file: str,
    params: Sequence[str],
    *,
    apps: Sequence[str],
    workers: int | None,
    follow: bool,
    log_level: str,
    dsn: str,
    output: Format | None,
) -> int:
    """`params` as `name=value`. Returns the exit code; raises what is wrong with the input."""
    set_up_logging(log_level, clean_lines)
    ambient = ambient or Ambient()
    with stdout_kept_for_data():
        record, ending = _start(ambient, file, params, dsn, engine_flags(apps, workers, follow))
    return report_ending(ending, record, output, ambient.clock)


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
    """Go on with the run whose id begins so. Returns the exit code."""
    set_up_logging(log_level, clean_lines)
    ambient = ambient or Ambient()
    with stdout_kept_for_data():
        record, ending = asyncio.run(_resume(ambient, prefix, dsn, engine_flags(apps, workers, follow)))
    return report_ending(ending, record, output, ambient.clock)


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
    if prefix == NEWEST:
        record, _ = await newest_unfinished(runs, dsn, ambient)
    else:
        record, _ = await find_instance(runs, prefix, dsn, ambient)

    return record, await go_on(ambient, runs, record, flags, lift_pause)
