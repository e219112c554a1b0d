"""What `taskengine run` does: one workflow to its end, in this process, on a store of its own."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskengine.ambient import Ambient
from taskengine.cli.local.definitions import STDIN, load_definition, require_steps
from taskengine.cli.local.finding import find_instance, newest_unfinished, prune
from taskengine.cli.local.goingon import absolute, go_on, lift_pause, tries_allowed
from taskengine.cli.local.runs import RunRecord, Runs, lasting_dsn
from taskengine.cli.local.work import Ending, Watching, make_builder, work
from taskengine.cli.options import EngineOptions
from taskengine.cli.output import Output
from taskengine.cli.safe import clean_lines
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.cli.verbs.report import report_run
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
    also: Sequence[str],
    *,
    engine: EngineOptions,
    dsn: str,
    output: Output,
) -> int:
    """Returns the exit code; raises what is wrong with the input.

    params  as `name=value`
    also    files of workflows that it runs as steps
    """
    set_up_logging(engine.log_level, clean_lines)
    ambient = ambient or Ambient()
    with stdout_kept_for_data():
        record, ending = _start(ambient, file, params, also, dsn, engine, quiet=output.quiet)
    return report_run(ending.detail, record, output, ambient.clock)


def resume(ambient: Ambient | None, prefix: str, *, engine: EngineOptions, dsn: str, output: Output) -> int:
    """Go on with the run whose id begins so. Returns the exit code."""
    set_up_logging(engine.log_level, clean_lines)
    ambient = ambient or Ambient()
    with stdout_kept_for_data():
        record, ending = asyncio.run(_resume(ambient, prefix, dsn, engine, quiet=output.quiet))
    return report_run(ending.detail, record, output, ambient.clock)


def _start(
    ambient: Ambient,
    file: str,
    params: Sequence[str],
    also: Sequence[str],
    dsn: str,
    engine: EngineOptions,
    *,
    quiet: bool,
) -> tuple[RunRecord, Ending]:
    """Whatever can be wrong with the input is found before anything is made."""
    runs, apps = Runs(), absolute(engine.apps)
    record = runs.plan(
        InstanceId(ambient.ids.uuid7()),
        ambient.clock.now_us(),
        dsn=lasting_dsn(dsn) if dsn else None,
        apps=apps,
        workers=engine.workers,
        pools=engine.pools,
        file="" if file == STDIN else os.path.abspath(file),
    )
    builder = make_builder(ambient, record.dsn or dsn, apps, engine.workers, engine.pools)
    ready = builder.build()
    jobs, pools = ready.registry.names(), [pool.name for pool in ready.pools]
    definition = load_definition(file, jobs, pools)
    steps = [load_definition(each, jobs, pools) for each in also]
    if not dsn:  # a database may have them
        require_steps([definition, *steps])
    given = parse_assignments(definition.params, params)
    bind_params(definition.params, given)
    if record.dsn:
        runs.create(record)
    watching = Watching(instance_id=record.id, tries_allowed=tries_allowed(definition), logs=engine.follow, quiet=quiet)
    return record, asyncio.run(_run(ambient, runs, builder, definition, steps, given, watching))


async def _run(
    ambient: Ambient,
    runs: Runs,
    builder: EngineBuilder,
    definition: WorkflowDefinition,
    steps: Sequence[WorkflowDefinition],
    params: Mapping[str, Any],
    watching: Watching,
) -> Ending:
    await prune(runs, ambient)

    async def begin(engine: Engine, instance_id: InstanceId) -> None:
        for step in steps:
            await engine.register_workflow(step)
        await engine.execute_workflow(definition, params, instance_id=instance_id)

    return await work(builder, begin, watching, ambient.clock)


async def _resume(
    ambient: Ambient, prefix: str, dsn: str, engine: EngineOptions, *, quiet: bool
) -> tuple[RunRecord, Ending]:
    """An instance that has ended already is only shown."""
    runs = Runs()
    if prefix == NEWEST:
        record, _ = await newest_unfinished(runs, dsn, ambient)
    else:
        record, _ = await find_instance(runs, prefix, dsn, ambient)

    return record, await go_on(ambient, runs, record, engine, lift_pause, quiet=quiet)
