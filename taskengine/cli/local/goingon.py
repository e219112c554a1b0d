"""Taking up an instance that another process left: `run --resume`, `instance resume`, `instance retry`."""

import os
from collections.abc import Mapping, Sequence

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli.local.reading import looking
from taskengine.cli.local.runs import RunRecord, Runs
from taskengine.cli.local.work import Change, Ending, Watching, make_builder, work
from taskengine.cli.options import EngineOptions
from taskengine.engine.engine import Engine
from taskengine.model.definition import WorkflowDefinition
from taskengine.model.ids import InstanceId
from taskengine.model.states import InstanceState

__all__ = ["absolute", "go_on", "lift_pause", "tries_allowed"]


async def go_on(
    ambient: Ambient, runs: Runs, record: RunRecord, engine: EngineOptions, begin: Change, *, quiet: bool
) -> Ending:
    """Run the instance until it rests, with the job files it was started with. Raises StoreLocked and the like."""
    record = _remember(runs, record, engine)
    async with looking(record.dsn, ambient) as look:
        definition = await look.definition_of(record.id)
    watching = Watching(instance_id=record.id, tries_allowed=tries_allowed(definition), logs=engine.follow, quiet=quiet)
    builder = make_builder(ambient, record.dsn, record.apps, record.workers, record.pools)
    return await work(builder, begin, watching, ambient.clock)


async def lift_pause(engine: Engine, instance_id: InstanceId) -> None:
    """An unfinished instance goes on by itself when the engine starts; a paused one needs a word."""
    view = await engine.get_instance(instance_id)
    if view.status is InstanceState.PAUSED:
        await engine.resume_instance(instance_id)


def tries_allowed(definition: WorkflowDefinition | None) -> Mapping[str, int]:
    """By task name: attempts that the definition allows, of those with a retry policy."""
    tasks = () if definition is None else definition.tasks
    return {task.name: task.retry.count + 1 for task in tasks if task.retry is not None}


def absolute(apps: Sequence[str]) -> tuple[str, ...]:
    """Job files are found from the current folder, now and by whoever goes on with the run."""
    return tuple(os.path.abspath(app) for app in apps)


def _remember(runs: Runs, record: RunRecord, engine: EngineOptions) -> RunRecord:
    """Files, workers and pools that are given now count from now on."""
    changed = msgspec.structs.replace(
        record,
        apps=absolute(engine.apps) or record.apps,
        workers=engine.workers or record.workers,
        pools=engine.pools or record.pools,
    )
    if changed != record and runs.get(record.id) is not None:
        runs.save(changed)
    return changed
