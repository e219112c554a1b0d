"""What any test may ask for: `dsn`, one store after the other, by the marks below."""

from collections.abc import Callable
from pathlib import Path

import pytest

from databases.servers import SERVERS, fresh, new_database

__all__ = ["dsn", "every_database", "every_server", "every_store", "mysql_dsn", "new_dsn", "postgresql_dsn"]

every_server = pytest.mark.parametrize("dsn", SERVERS, indirect=True)
every_database = pytest.mark.parametrize("dsn", ["sqlite", *SERVERS], indirect=True)
every_store = pytest.mark.parametrize("dsn", ["memory", "sqlite", *SERVERS], indirect=True)


def _address(kind: str, folder: Path) -> str:
    if kind == "memory":
        return "memory://"
    return str(folder / "引擎.db") if kind == "sqlite" else fresh(kind)


@pytest.fixture
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store without rows, of the kind that the mark says."""
    return _address(request.param, tmp_path)


@pytest.fixture
def postgresql_dsn() -> str:
    return fresh("postgresql")


@pytest.fixture
def mysql_dsn() -> str:
    return fresh("mysql")


@pytest.fixture
def new_dsn(tmp_path: Path) -> Callable[[str], str]:
    """For tests that need several: makes an empty database of a kind."""
    made = 0

    def make(kind: str) -> str:
        nonlocal made
        made += 1
        return str(tmp_path / f"{made}.db") if kind == "sqlite" else new_database(kind)

    return make
