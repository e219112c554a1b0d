"""The machine: Python and libraries, SQLite, the clock, open files."""

import platform
import resource
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from taskengine.cli.doctor.finding import Finding, fail, ok, warn
from taskengine.clock import Clock, Micros
from taskengine.version import VERSION

__all__ = ["check_clock", "check_files", "check_libraries", "check_sqlite"]

_LIBRARIES: Final = ("msgspec", "litestar", "uvicorn", "httptools", "websockets", "aiosqlite", "jinja2", "httpx")
_EXTRAS: Final = ("uvloop",)
_WAL_REPAIRED: Final = (3, 51, 3)
_BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SPARE_FILES: Final = 200


def check_libraries() -> Iterator[Finding]:
    """Python itself, and what a server needs beside it."""
    yield ok("python", f"{platform.python_version()} on {sys.platform}, taskengine {VERSION}")
    found = {name: _version(name) for name in (*_LIBRARIES, *_EXTRAS)}
    missing = [name for name in _LIBRARIES if not found[name]]
    if missing:
        advice = "install taskengine with its dependencies, such as `pip install taskengine`"
        yield fail("libraries", f"missing: {', '.join(missing)}", advice)
    else:
        yield ok("libraries", ", ".join(f"{name} {number}" for name, number in found.items() if number))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def check_sqlite(number: tuple[int, ...] = sqlite3.sqlite_version_info) -> Finding:
    """Before 3.51.3 a database in WAL mode could be damaged by two connections that write or checkpoint at once."""
    shown = ".".join(map(str, number))
    if number >= _WAL_REPAIRED:
        return ok("sqlite", shown)
    return ok(
        "sqlite", f"{shown}; write to the database with nothing but taskengine: before 3.51.3 two writers may damage it"
    )


def check_clock(clock: Clock, newest_us: Micros | None) -> Finding:
    """`newest_us`: when the youngest thing in the database was made."""
    now_us = clock.now_us()
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    shown = now.isoformat(timespec="seconds")
    if now < _BUILT:
        return fail("clock", f"{shown} is before this program was written", "set the clock, e.g. with NTP")
    if newest_us is not None and newest_us > now_us + 60_000_000:
        made = datetime.fromtimestamp(newest_us / 1_000_000, UTC).isoformat(timespec="seconds")
        return warn("clock", f"{shown}, and the database knows of {made}", "the clock went back: check its source")
    return ok("clock", shown)


def check_files(clients: int) -> Finding:
    """How many files this process may open; each client takes one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        advice = f"`ulimit -n {wanted}`, or LimitNOFILE={wanted} in the unit, or fewer server.max_clients"
        return warn("open files", f"{soft} allowed, {clients} clients may come", advice)
    return ok("open files", "any number" if soft == resource.RLIM_INFINITY else f"{soft} allowed")
