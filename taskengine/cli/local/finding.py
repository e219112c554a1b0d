"""Which instance a command is about: by the beginning of its id among the runs of this machine, or in one database."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli.local.reading import looking
from taskengine.cli.local.runs import RunRecord, Runs
from taskengine.cli.problems import say
from taskengine.clock import Micros, seconds
from taskengine.engine.views import InstanceView
from taskengine.errors import InvalidConfiguration, InvalidInput, NotFound, StoreError
from taskengine.model.ids import InstanceId
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.store.interface import ALL_INSTANCES, InstanceQuery

__all__ = ["find_instance", "list_instances", "newest_unfinished", "prune"]

_KEPT_DAYS: Final = 30
_PAGE: Final = 100


async def find_instance(runs: Runs, prefix: str, dsn: str, ambient: Ambient) -> tuple[RunRecord, InstanceView]:
    """The instance whose id begins so, and how to run it. `dsn` empty: among the runs.

    Raises NotFound, and InvalidInput when there are several.
    """
    record = await _find_in_store(runs, prefix, dsn, ambient) if dsn else runs.find(prefix)
    view = await _look_at(record, ambient)
    if view is None:
        raise NotFound("instance", prefix, f"the run {record.id} ended before it had saved anything; start it again")
    return record, view


async def newest_unfinished(runs: Runs, dsn: str, ambient: Ambient) -> tuple[RunRecord, InstanceView]:
    """What `--resume` without an id means: the newest that can go on and that no other process runs.

    Raises NotFound. When all of them are being run elsewhere it gives the newest; opening its store says by whom.
    """
    busy: tuple[RunRecord, InstanceView] | None = None
    unfinished = frozenset(InstanceState) - INSTANCE_FINAL - {InstanceState.QUARANTINED}
    async with aclosing(list_instances(runs, dsn, ambient, InstanceQuery(states=unfinished))) as found:
        async for record, view in found:
            if not runs.is_locked(record):
                return record, view
            busy = busy or (record, view)
    if busy is None:
        flags = f"--db {dsn}" if dsn else "--runs"
        raise NotFound("unfinished run in", dsn or str(runs.folder), f"`taskengine instance list {flags}` shows all")
    return busy


async def list_instances(
    runs: Runs, dsn: str, ambient: Ambient, query: InstanceQuery = ALL_INSTANCES
) -> AsyncGenerator[tuple[RunRecord, InstanceView], None]:
    """Newest first. A run that cannot be read is named on stderr and passed over.

    Who stops before the end closes it (`aclosing`): a database is open meanwhile.
    """
    if dsn:
        async with aclosing(_list_store(runs, dsn, ambient, query)) as pairs:
            async for pair in pairs:
                yield pair
        return
    for record in runs.all():
        if not record.id.startswith(query.prefix):
            continue
        try:
            view = await _look_at(record, ambient, query)
        except (StoreError, InvalidConfiguration) as error:
            say(f"Warning: run {record.id} cannot be read: {error}")
            continue
        if view is not None:
            yield record, view


async def prune(runs: Runs, ambient: Ambient) -> None:
    """Remove the folders of runs that ended 30 days ago, or that never began. What is in use or in doubt stays."""
    limit_us = ambient.clock.now_us() - seconds(_KEPT_DAYS * 86_400)
    for record in runs.all():
        if record.created_us > limit_us:
            continue
        try:
            view = await _look_at(record, ambient) if record.own else None
        except (StoreError, InvalidConfiguration) as error:
            ambient.log.debug("run.not_pruned", run=record.id, error=str(error))
            continue
        if view is None or (view.finished_at is not None and view.finished_at.timestamp() * 1_000_000 < limit_us):
            runs.remove(record)


async def _look_at(record: RunRecord, ambient: Ambient, query: InstanceQuery = ALL_INSTANCES) -> InstanceView | None:
    """None when it is not what is asked for, or when the run died before its first commit."""
    if not _may_have_store(record):
        return None
    async with looking(record.dsn, ambient) as look:
        # Its store may be one that it shares with others.
        found = await look.reading.instances(msgspec.structs.replace(query, prefix=record.id), limit=1)
    return found[0] if found else None


def _may_have_store(record: RunRecord) -> bool:
    """A run of its own that died early has none; of another store only opening it can tell."""
    return not record.own or Path(record.dsn).exists()


async def _find_in_store(runs: Runs, prefix: str, dsn: str, ambient: Ambient) -> RunRecord:
    async with looking(dsn, ambient) as look:
        rows = await look.store.instances(InstanceQuery(prefix=prefix.lower()), limit=10) if prefix else []
    if not rows:
        raise NotFound("instance", prefix, f"`taskengine instance list --db {dsn}` shows what there is")
    if len(rows) > 1:
        shown = "\n  ".join(row.id for row in rows)
        raise InvalidInput(f"several instances begin with {prefix}; type more of the id:\n  {shown}")
    return _record(runs, rows[0].id, dsn, rows[0].created_us)


async def _list_store(
    runs: Runs, dsn: str, ambient: Ambient, query: InstanceQuery
) -> AsyncGenerator[tuple[RunRecord, InstanceView], None]:
    async with looking(dsn, ambient) as look:
        after: tuple[Micros, InstanceId] | None = None
        while True:
            views = await look.reading.instances(query, limit=_PAGE, after=after)
            for view in views:
                after = (_micros(view.created_at), view.id)
                yield _record(runs, view.id, dsn, after[0]), view
            if len(views) < _PAGE:
                return


def _micros(at: datetime) -> Micros:
    return Micros(round(at.timestamp() * 1_000_000))


def _record(runs: Runs, instance_id: InstanceId, dsn: str, created_us: Micros) -> RunRecord:
    """How an instance of a shared database was started, if a run of this machine started it."""
    known = runs.get(instance_id)
    if known is not None:
        return msgspec.structs.replace(known, dsn=dsn, own=False)
    return RunRecord(id=instance_id, dsn=dsn, own=False, created_us=created_us)
