"""A copy of a SQLite database while its owner goes on writing.

SQLite's own backup, page by page, over a connection that can only read: so it needs no lock and no server's help, and
cannot do what only the owner may (sqlite.py). One read transaction spans all of it. Without one SQLite would begin
again after every commit of the owner, which on a busy server never ends; with it the owner's log grows until the copy
is done. VACUUM INTO reads a single moment, too, and leaves a smaller file, but it may number rows anew, and the order
in which commands were accepted is in these numbers.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from taskengine.errors import Conflict, InvalidConfiguration, InvalidInput, StoreCorrupt, StoreError
from taskengine.store.migrations import applied
from taskengine.store.place import resolve
from taskengine.store.sqlite_thread import translate

__all__ = ["Backup", "back_up"]

SLICE_PAGES: Final = 1_000
"""4 MiB; between two slices the caller is told, and may raise."""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that is complete, on the disk, and was checked."""

    path: str
    size_bytes: int
    schema: int


def back_up(source: Path, target: Path, *, force: bool, told: Callable[[int, int], object]) -> Backup:
    """Copy the database into the file `target`, mode 0600. Blocks.

    The copy is made under another name in the same folder and gets its own when it is whole, checked and synced, so
    whatever bears the name is good. Nothing remains of one that failed or was interrupted; of one that was killed, a
    file whose name ends in `.partial`.

    force  replace a file that is there; never the database itself
    told   hears how many pages are copied, and of how many, after every slice
    Raises Conflict when the target is there, InvalidInput when it cannot be one, InvalidConfiguration without a source
           of ours, StoreCorrupt when the copy fails the check, other StoreErrors, OSError.
    """
    target = resolve(target)
    _refuse(source, target, force=force)
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        try:
            schema = _copy(source, draft, told)
            _check(draft, schema)
        except sqlite3.Error as exc:
            raise translate(exc, f"{source} to {target}") from exc
        _sync(draft)
        _name(draft, target, force=force)
        _sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)
    return Backup(path=str(target), size_bytes=target.stat().st_size, schema=schema)


def _refuse(source: Path, target: Path, *, force: bool) -> None:
    """What would go wrong in the end goes wrong at once."""
    if not source.exists():
        raise InvalidConfiguration(f"{source}: there is no such database")
    if target.is_dir():
        raise InvalidInput(f"{target} is a folder; name the file that shall be written, such as {target}/{source.name}")
    if not target.parent.is_dir():
        raise InvalidInput(f"{target.parent}: there is no such folder; make it first")
    beside = [source.with_name(source.name + end) for end in ("", "-wal", "-shm", ".lock")]
    if target in beside:
        raise InvalidInput(f"{target} belongs to the database that shall be copied; name another file")
    if target.exists() and not force:
        raise Conflict(f"{target} is there already; --force replaces it")


def _copy(source: Path, draft: Path, told: Callable[[int, int], object]) -> int:
    """Gives the number of the schema."""
    with _opened(source, "mode=ro") as live, _opened(draft, "mode=rw") as copy:
        copy.execute("PRAGMA journal_mode = OFF")  # a copy that is cut off is thrown away
        copy.execute("PRAGMA synchronous = OFF")  # synced as a whole, at the end
        live.execute("BEGIN")
        schema = applied(live)  # the first read: from here on it is one moment
        if not schema:
            raise InvalidConfiguration(f"{source} is empty: there is nothing to copy")
        live.backup(copy, pages=SLICE_PAGES, progress=lambda status, left, pages: told(pages - left, pages))
    return schema


def _check(draft: Path, schema: int) -> None:
    """immutable: nobody else has this file, so it is read without a log beside it."""
    with _opened(draft, "mode=ro&immutable=1") as copy:
        said = [str(row[0]) for row in copy.execute("PRAGMA quick_check(5)")]
        if said != ["ok"]:
            raise StoreCorrupt(f"the copy is damaged, and so is the database: {'; '.join(said)}")
        if applied(copy) != schema:
            raise StoreError(f"the copy has schema {applied(copy)} instead of {schema}")


@contextlib.contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, isolation_level=None)) as db:
        yield db


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _name(draft: Path, target: Path, *, force: bool) -> None:
    if force:
        os.replace(draft, target)
        return
    try:
        os.link(draft, target)  # and not a rename, which would replace what somebody has put there meanwhile
    except FileExistsError:
        raise Conflict(f"{target} is there already; --force replaces it") from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise Conflict(f"{target} is there already; --force replaces it") from None
        os.replace(draft, target)
