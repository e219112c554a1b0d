"""The database and the folder around it: permissions, file system, room, lock, schema, integrity."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from taskengine.cli.doctor.finding import Finding, fail, ok, warn
from taskengine.clock import Clock, Micros
from taskengine.errors import SchemaTooNew, TaskEngineError
from taskengine.store.lock import holder_of, is_locked
from taskengine.store.migrations import applied, load, refuse_newer
from taskengine.store.place import mount_type, network_type
from taskengine.store.queries import folder

__all__ = ["check_database", "check_room", "check_state_folder", "newest_us"]

_LITTLE_ROOM: Final = 1024**3
_NO_ROOM: Final = 64 * 1024**2
_PATIENCE_S: Final = 10.0
_STEPS: Final = 100_000
_MOUNTS: Final = Path("/proc/self/mountinfo")


def check_state_folder(place: Path, token: Path) -> Iterator[Finding]:
    """The folder of database and token, and the token's file."""
    if not place.exists():
        parent = next(parent for parent in place.parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield ok("state folder", f"{place} will be made by the first start")
        else:
            yield fail("state folder", f"{place} is missing and cannot be made in {parent}", _mend_access(parent))
        return
    mode = stat.S_IMODE(place.stat().st_mode)
    if not os.access(place, os.W_OK | os.X_OK):
        yield fail("state folder", f"{place} cannot be written", _mend_access(place))
    elif mode & 0o022:
        yield warn("state folder", f"others may write in {place} (mode {mode:04o})", f"chmod 700 {place}")
    else:
        yield ok("state folder", f"{place} (mode {mode:04o})")
    yield from _check_token(token)


def _mend_access(place: Path) -> str:
    return f"let this user write there (chown, chmod u+rwx {place}), or name another place with --db"


def _check_token(token: Path) -> Iterator[Finding]:
    try:
        facts = token.lstat()
    except OSError:
        yield ok("token", f"{token} will be made by the first start")
        return
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid():
        yield fail("token", f"{token} is not a file of this user", "move it away; the next start makes a new one")
    elif mode & 0o077:
        advice = f"chmod 600 {token}, then `taskengine token rotate`: somebody may have read it"
        yield fail("token", f"others may read {token} (mode {mode:04o})", advice)
    else:
        yield ok("token", f"{token} (mode {mode:04o})")


def check_room(place: Path, dsn: str) -> Iterator[Finding]:
    """The kind of the file system, and how much fits on it."""
    existing = next(each for each in (place, *place.parents) if each.exists())
    try:
        kind = mount_type(place, _MOUNTS.read_text("utf-8", "surrogateescape").splitlines())
    except OSError:  # not Linux
        kind = ""
    trusted = dict(parse_qsl(urlsplit(dsn).query)).get("allow_network") == "true"
    if network_type(kind) and not trusted:
        advice = "put the database on a local disk with --db: SQLite's locks do not work over a network"
        yield fail("file system", f"{place} is on a network file system ({kind})", advice)
    elif network_type(kind):
        yield warn("file system", f"{kind}, trusted by allow_network", "make sure that its locks are real")
    else:
        yield ok("file system", kind or "unknown")
    free = shutil.disk_usage(existing).free
    shown = f"{free / 1024**3:.1f}GiB free"
    if free < _LITTLE_ROOM:
        judge = fail if free < _NO_ROOM else warn
        yield judge("disk", f"{shown} on the disk of {existing}", "make room; a full disk stops all work")
    else:
        yield ok("disk", shown)


def check_database(path: Path, clock: Clock) -> Iterator[Finding]:
    """Lock, schema and integrity, through a connection that can only read."""
    if not path.exists():
        yield ok("database", f"{path} will be made by the first start")
        return
    yield _check_lock(path)
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error as error:
        yield _unreadable(path, error)
        return
    try:
        yield _check_schema(db)
        yield _check_integrity(db, clock)
    except (sqlite3.Error, TaskEngineError) as error:
        yield _unreadable(path, error)
    finally:
        db.close()


def _unreadable(path: Path, error: Exception) -> Finding:
    return fail("database", f"{path}: {error}", "name another file with --db, or restore this one from a backup")


def _check_lock(path: Path) -> Finding:
    holder = holder_of(path)
    if not is_locked(path):
        return ok("database lock", "free")
    if holder.address:
        return ok("database lock", f"held by the server at {holder.address} (pid {holder.pid})")
    return warn(
        "database lock",
        f"held by another process ({holder})",
        "a server on this database cannot start until that process ends",
    )


def _check_schema(db: sqlite3.Connection) -> Finding:
    steps = load(folder("sqlite"))
    found = applied(db)
    try:
        refuse_newer(found, steps)
    except SchemaTooNew as error:
        return fail("schema", str(error), "install the newer taskengine, or name another database with --db")
    known = steps[-1].number
    return ok("schema", f"{found}" if found == known else f"{found}; the next start brings it to {known}")


def _check_integrity(db: sqlite3.Connection, clock: Clock) -> Finding:
    """SQLite's quick check, for ten seconds at most."""
    until_s = clock.monotonic() + _PATIENCE_S
    db.set_progress_handler(lambda: clock.monotonic() > until_s, _STEPS)
    try:
        said = [str(row[0]) for row in db.execute("PRAGMA quick_check(5)")]
    except sqlite3.DatabaseError as error:
        if clock.monotonic() > until_s:
            return ok(
                "integrity", f"nothing wrong in {_PATIENCE_S:g} s; the database is too large to look at all of it"
            )
        return fail("integrity", str(error), "restore the database from a backup")
    finally:
        db.set_progress_handler(None, 0)
    if said == ["ok"]:
        return ok("integrity", "ok")
    return fail("integrity", "; ".join(said), "stop the server and restore the database from a backup")


def newest_us(path: Path) -> Micros | None:
    """When the youngest instance was made; None: there is none, or it cannot be read."""
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error:
        return None
    try:
        (found,) = db.execute("SELECT max(created_us) FROM instances").fetchone()
    except sqlite3.Error:
        return None
    finally:
        db.close()
    return None if found is None else Micros(found)
