"""What `taskengine db status` and `db migrate` do."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final, TextIO

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.listing import show_table
from taskengine.cli.live.counter import Counter
from taskengine.cli.local.databases import kept, opened
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.safe import clean
from taskengine.cli.targets.choosing import choose
from taskengine.cli.targets.naming import database_of, where_of
from taskengine.cli.verbs.instances import time_text
from taskengine.clock import Micros, seconds
from taskengine.errors import InvalidInput, SchemaTooNew
from taskengine.model.durations import format_duration
from taskengine.store.checksums import checksum
from taskengine.store.interface import SchemaSteps
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore
from taskengine.store.tables import TABLES
from taskengine.wire import DatabaseBody

__all__ = ["migrate", "show_status", "size_text"]

_HEADS: Final = ("TABLE", "ROWS")
_SUM_HEADS: Final = ("TABLE", "ROWS", "SHA-256")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class ChecksumBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a table adds up to; `taskengine.store.checksums` says how it is computed."""

    table: str
    rows: int
    sha256: str


class DatabaseReport(DatabaseBody, frozen=True, kw_only=True):
    """The same, with what all rows add up to."""

    checksums: list[ChecksumBody]


class SchemaBody(msgspec.Struct, frozen=True, kw_only=True):
    """What `db migrate` did, or would do.

    schema  number of the newest step that the database has had by now
    known   number of the newest step of this program
    """

    address: str
    schema: int
    known: int
    taken: list[str]
    missing: list[str]


def show_status(ambient: Ambient | None, *, where: Where, config: str, checksums: bool, output: Output) -> None:
    ambient = ambient or Ambient()
    where = where_of(where, config)
    with choose(where, ambient) as target:
        body = target.database()
    if checksums:
        if not where.dsn:
            raise InvalidInput(
                "--checksums reads the whole database, which a server does for nobody; name it with --db or --config"
            )
        sums = asyncio.run(_checksums(where.dsn, body, ambient, output))
        body = DatabaseReport(checksums=sums, **msgspec.structs.asdict(body))
    write_data(
        body,
        output.form or Format.TABLE,
        table=lambda stream: _show(body, stream, headers=output.headers),
        key="address",
    )


async def _checksums(dsn: str, body: DatabaseBody, ambient: Ambient, output: Output) -> list[ChecksumBody]:
    """Also of a database whose server runs, and then of no single moment."""
    found: list[ChecksumBody] = []
    done = 0
    total = sum(table.rows for table in body.tables or ())
    with Counter(sys.stderr, ambient.clock, quiet=output.quiet) as counter:

        def count(rows: int) -> None:
            nonlocal done
            done += rows
            counter.told(table.name, done, total)

        async with opened(kept(open_store(dsn, ambient, read_only=True, partial=True))) as store:
            for table in TABLES:
                sums = await checksum(store, table, told=count)
                found.append(ChecksumBody(table=sums.table, rows=sums.rows, sha256=sums.digest))
    return found


def _show(body: DatabaseBody, stream: TextIO, *, headers: bool) -> None:
    for name, value in _facts(body):
        write_text(clean(f"{name:<10} {value}"), stream)
    if isinstance(body, DatabaseReport):
        write_text("", stream)
        sums = [[each.table, f"{each.rows:,}", each.sha256] for each in body.checksums]
        show_table(_SUM_HEADS, sums, stream, headers=headers)
    elif body.tables is not None:
        write_text("", stream)
        rows = [[each.name, f"{'' if each.exact else '~'}{each.rows:,}"] for each in body.tables]
        show_table(_HEADS, rows, stream, headers=headers)


def _facts(body: DatabaseBody) -> Sequence[tuple[str, str]]:
    facts = [("Database", body.address), ("Schema", _schema_text(body))]
    if body.size_bytes is not None:
        facts.append(("Size", size_text(body.size_bytes)))
    facts.append(("Held by", _holder_text(body)))
    if body.filled_from is not None:
        facts.append(("Filled", _filled_text(body)))
    if body.instances is not None:
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(body.instances.items()))
        facts.append(("Instances", counts or "none"))
    if (kept := body.retention) is not None:
        facts.append(("Kept", f"success {_kept_text(kept.success)}, others {_kept_text(kept.failed)}"))
    if (oldest := body.oldest_unfinished) is not None:
        about = f"{oldest.id} of {oldest.workflow_id}, {oldest.status}"
        facts.append(("Unfinished", f"since {time_text(oldest.created_at)} UTC: {about}"))
    return facts


def _schema_text(body: DatabaseBody) -> str:
    if not body.missing_steps:
        return str(body.schema)
    return f"{body.schema}; `taskengine db migrate` takes {_listed(body.missing_steps)}"


def _holder_text(body: DatabaseBody) -> str:
    holder = body.holder
    if holder is None:
        return "nobody"
    where = f"pid {holder.pid}{f' on {holder.host}' if holder.host else ''}"
    return f"the server at {holder.address} ({where})" if holder.address else where


def _filled_text(body: DatabaseBody) -> str:
    filled = body.filled_from
    assert filled is not None
    if filled.finished_at is None:
        return f"in part from {filled.source}; `taskengine db move FROM TO --resume` goes on"
    return f"from {filled.source}, {time_text(filled.finished_at)} UTC"


def _kept_text(kept_s: float | None) -> str:
    return "for ever" if kept_s is None else format_duration(Micros(seconds(kept_s)))


def _listed(steps: Sequence[str]) -> str:
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(steps)}"


def size_text(size_bytes: int) -> str:
    """`1.5 GiB`."""
    size, unit = float(size_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"


def migrate(ambient: Ambient | None, *, dsn: str, config: str, check: bool, output: Output) -> int:
    """1 when it only looked and something is missing."""
    ambient = ambient or Ambient()
    store = kept(open_store(database_of(dsn, config), ambient, partial=True))
    before, taken = asyncio.run(_migrate(store, check=check))
    body = SchemaBody(
        address=store.address,
        schema=before.found if check else len(before.steps),
        known=len(before.steps),
        taken=list(taken),
        missing=list(before.missing) if check else [],
    )
    write_data(body, output.form or Format.TABLE, table=lambda stream: _show_schema(body, stream), key="address")
    return exits.ERROR if body.missing else exits.OK


async def _migrate(store: SqlStore, *, check: bool) -> tuple[SchemaSteps, Sequence[str]]:
    """How it was, and the steps that were taken. Nothing is opened, nor locked, when there is nothing to do."""
    before = await store.schema()
    if before.found > len(before.steps):
        raise SchemaTooNew(before.found, len(before.steps))
    if check or not before.missing:
        return before, ()
    async with opened(store):
        return before, before.missing


def _show_schema(body: SchemaBody, stream: TextIO) -> None:
    if body.missing:
        text = f"has schema {body.schema} and lacks {_listed(body.missing)}"
    elif body.taken:
        text = f"has schema {body.schema} now: {_listed(body.taken)}"
    else:
        text = f"has schema {body.schema}, which is the newest"
    write_text(clean(f"{body.address} {text}"), stream)
