"""What `taskengine db backup` does: copy a SQLite file, or say how the others are copied."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import msgspec

from taskengine.ambient import Ambient
from taskengine.assembly import database_file
from taskengine.cli import exits
from taskengine.cli.live.counter import Counter
from taskengine.cli.local.databases import kept
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.problems import say
from taskengine.cli.safe import clean
from taskengine.cli.targets.naming import database_of
from taskengine.cli.verbs.databases import size_text
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore
from taskengine.store.sqlite_backup import Backup, back_up

__all__ = ["back_up_database"]


class BackupBody(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that was made; or, with `file` null, the commands that would make one."""

    database: str
    file: str | None
    size_bytes: int | None
    schema: int | None
    commands: list[str]


def back_up_database(ambient: Ambient | None, *, file: str, dsn: str, config: str, force: bool, output: Output) -> int:
    """1 when nothing was copied, because other programs do that."""
    ambient, address = ambient or Ambient(), database_of(dsn, config)
    store = kept(open_store(address, ambient, read_only=True))
    source = database_file(address)
    if source is None:
        return _advise(store, address, file, output)
    with Counter(sys.stderr, ambient.clock, quiet=output.quiet, unit="pages") as counter:
        made = back_up(source, Path(file), force=force, told=lambda done, total: counter.told("", done, total))
    body = BackupBody(
        database=store.address, file=made.path, size_bytes=made.size_bytes, schema=made.schema, commands=[]
    )
    write_data(body, output.form or Format.TABLE, table=lambda stream: _show(made, stream), key="file")
    return exits.OK


def _show(made: Backup, stream: TextIO) -> None:
    write_text(clean(f"{made.path}  {size_text(made.size_bytes)}, schema {made.schema}"), stream)


def _advise(store: SqlStore, address: str, file: str, output: Output) -> int:
    """The command lines to stdout, ready to be typed; that nothing was done to stderr."""
    parts = urlsplit(address)
    commands = _for_postgresql(parts, file) if store.dialect.name == "postgresql" else _for_mysql(parts, file)
    body = BackupBody(database=store.address, file=None, size_bytes=None, schema=None, commands=list(commands))
    write_data(
        body, output.form or Format.TABLE, table=lambda stream: write_text("\n".join(commands), stream), key="file"
    )
    say(
        "Error: nothing was copied. Databases of this kind come with a program that copies them while they are used; "
        "the commands above are for it, the second one restores. Neither has the password: docs/databases.md"
    )
    return exits.ERROR


def _for_postgresql(parts: SplitResult, file: str) -> Sequence[str]:
    user = f"{parts.username}@" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    options = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] not in ("password", "sslpassword")])
    url = urlunsplit(("postgresql", f"{user}{host}", parts.path, options, ""))
    return (
        shlex.join(["pg_dump", "--format=custom", f"--file={file}", url]),
        shlex.join(["pg_restore", "--clean", "--if-exists", f"--dbname={url}", file]),
    )


def _for_mysql(parts: SplitResult, file: str) -> Sequence[str]:
    socket = dict(parse_qsl(parts.query)).get("unix_socket")
    place = (
        [f"--socket={socket}"]
        if socket
        else [f"--host={parts.hostname or 'localhost'}", f"--port={parts.port or 3306}"]
    )
    who = [*place, *([f"--user={unquote(parts.username)}"] if parts.username else [])]
    database = unquote(parts.path.strip("/"))
    return (
        shlex.join(["mariadb-dump", *who, "--single-transaction", "--quick", f"--result-file={file}", database]),
        f"{shlex.join(['mariadb', *who, database])} < {shlex.quote(file)}",
    )
