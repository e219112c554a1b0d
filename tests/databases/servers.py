"""Where the tests' database servers are, and databases on them.

The address in TASKENGINE_TEST_POSTGRESQL or TASKENGINE_TEST_MYSQL, else the usual local one, else a private server from
installed binaries, else the tests that need it are skipped; with CI set they fail.
"""

import atexit
import contextlib
import getpass
import os
from functools import cache
from itertools import count

import pytest

from databases.asking import ask, kind_of, with_database
from databases.private import PrivateServer, can_be_private

__all__ = ["SERVERS", "current", "drop_all", "fresh", "new_database", "server", "wipe"]

SERVERS = ("postgresql", "mysql")
VARIABLES = {"postgresql": "TASKENGINE_TEST_POSTGRESQL", "mysql": "TASKENGINE_TEST_MYSQL"}
_USUAL = {
    "postgresql": [
        "postgresql://postgres@127.0.0.1:5432/test",
        f"postgresql://{getpass.getuser()}@127.0.0.1:5432/test",
    ],
    "mysql": ["mysql://root@127.0.0.1:3306/test"],
}
_PACKAGES = {"postgresql": "postgresql", "mysql": "mariadb-server"}
_PREFIX = "taskengine_test_"

_numbers = count(1)
_made: list[str] = []
_pool: dict[str, str] = {}


@cache
def server(kind: str) -> str:
    """The address of a server of this kind; skips the test that asks, or fails it in CI, when there is none."""
    named = os.environ.get(VARIABLES[kind])
    for dsn in [named] if named else _USUAL[kind]:
        with contextlib.suppress(Exception):
            ask(dsn, "SELECT 1", timeout_s=3)
            _sweep(dsn)
            return dsn
    if named:
        pytest.fail(f"{VARIABLES[kind]} is set and nobody answers there")
    if can_be_private(kind):
        private = PrivateServer(kind)
        atexit.register(private.remove)
        private.start()
        return private.dsn
    missing = f"no {kind} server: set {VARIABLES[kind]} to an address, or install {_PACKAGES[kind]}"
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(missing)
    pytest.skip(missing)


def _sweep(dsn: str) -> None:
    """Databases of test processes that are gone; all of them run on this machine."""
    listing = "SELECT datname FROM pg_database" if kind_of(dsn) == "postgresql" else "SHOW DATABASES"
    for (name,) in ask(dsn, listing)[0]:
        pid = str(name).removeprefix(_PREFIX).partition("_")[0]
        if str(name).startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(Exception):  # another worker sweeps too
                _drop(dsn, str(name))


def _drop(dsn: str, name: str) -> None:
    ask(dsn, f"DROP DATABASE IF EXISTS {name}" + (" WITH (FORCE)" if kind_of(dsn) == "postgresql" else ""))


def new_database(kind: str) -> str:
    """The address of an empty database, which is gone with this process at the latest."""
    dsn, name = server(kind), f"{_PREFIX}{os.getpid()}_{next(_numbers)}"
    ask(dsn, f"CREATE DATABASE {name}")
    if not _made:
        atexit.register(drop_all)
    made = with_database(dsn, name)
    _made.append(made)
    return made


def drop_all() -> None:
    """Whatever this process has made."""
    while _made:
        dsn = _made.pop()
        name = dsn.partition("?")[0].rpartition("/")[2]
        with contextlib.suppress(Exception):
            _drop(server(kind_of(dsn)), name)
    _pool.clear()


def fresh(kind: str) -> str:
    """One database of this process, always the same, without rows: its tables stay, since making them is slow."""
    if kind not in _pool:
        _pool[kind] = new_database(kind)
    else:
        wipe(_pool[kind])
    return _pool[kind]


def current(kind: str) -> str:
    """What `fresh` gave last, with all that is in it."""
    return _pool[kind]


_CUT_POSTGRESQL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_TABLES_POSTGRESQL = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
_OTHERS_MYSQL = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
_TABLES_MYSQL = """SELECT table_name FROM information_schema.tables
WHERE table_schema = database() AND table_type = 'BASE TABLE'"""


def wipe(dsn: str) -> None:
    """Cut off whoever is connected, and delete all rows but those of the migrations."""
    if kind_of(dsn) == "postgresql":
        _, found = ask(dsn, _CUT_POSTGRESQL, _TABLES_POSTGRESQL)
    else:
        connected, found = ask(dsn, _OTHERS_MYSQL, _TABLES_MYSQL)
        for (number,) in connected:
            with contextlib.suppress(Exception):  # it may have gone by itself
                ask(dsn, f"KILL {number}")
    names = [name for (name,) in found if not str(name).startswith("taskengine_migration")]
    if names:
        ask(dsn, *(f"DELETE FROM {name}" for name in names))
