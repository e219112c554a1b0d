"""What every test stands on: a clean environment, Hypothesis profiles, the seeds of the simulation."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases.fixtures import dsn, mysql_dsn, new_dsn, postgresql_dsn
from databases.servers import SERVERS
from hypothesis import settings

__all__ = ["dsn", "mysql_dsn", "new_dsn", "postgresql_dsn"]

TORTURE = os.environ.get("TASKENGINE_TORTURE", "") not in ("", "0")

# They steer the tests and not the program: the long form, and where the databases of the conformance suite are.
KEPT_NAMES = ("TASKENGINE_TORTURE",)
KEPT_PREFIX = "TASKENGINE_TEST_"

COLOUR_NAMES = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
XDG_NAMES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
XDG_SEARCH_NAMES = ("XDG_CONFIG_DIRS", "XDG_DATA_DIRS")

_room_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=None, help="replay this one seed of the simulation")
    group.addoption("--seeds", type=int, default=300, help="number of seeds the simulation runs (default: 300)")


def pytest_configure() -> None:
    settings.register_profile("quick", max_examples=50, deadline=None, derandomize=False, print_blob=True)
    settings.register_profile("torture", settings.get_profile("quick"), max_examples=2000)
    settings.load_profile("torture" if TORTURE else "quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs on a database server is marked so by the name of its kind among the test's parameters."""
    for item in items:
        names = item.name.partition("[")[2].rstrip("]").split("-")
        if any(kind in names for kind in SERVERS):
            item.add_marker(pytest.mark.servers)


@pytest.fixture
def simulation_seed_option(pytestconfig: pytest.Config) -> int | None:
    """The seed to replay alone, from `--seed`; None when all of them are to run."""
    seed: int | None = pytestconfig.getoption("--seed")
    return seed


@pytest.fixture
def simulation_seed_count(pytestconfig: pytest.Config) -> int:
    """How many seeds to run, from `--seeds`."""
    count: int = pytestconfig.getoption("--seeds")
    return count


def _is_ours(name: str) -> bool:
    return name.startswith("TASKENGINE_") and not name.startswith(KEPT_PREFIX) and name not in KEPT_NAMES


# Made by the session's factory and not by `tmp_path`: Hypothesis refuses function-scoped fixtures under @given,
# and would find that one behind this.
@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which each test gets a home of its own."""
    return tmp_path_factory.mktemp("rooms")


@pytest.fixture(autouse=True)
def clean_environment(rooms: Path) -> Iterator[None]:
    """No setting of the machine reaches a test: settings, found configuration, colour.

    TASKENGINE_HOME is an empty folder of the test's own. The XDG folders beside it do not exist yet, as on a new
    account; only the runtime folder does, since a login makes it.
    """
    room = rooms / str(next(_room_numbers))
    home, runtime = room / "home", room / "xdg_runtime_dir"
    home.mkdir(parents=True)
    runtime.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if _is_ours(name)]:
            patch.delenv(name)
        for name in COLOUR_NAMES:
            patch.delenv(name, raising=False)
        for name in (*XDG_NAMES, *XDG_SEARCH_NAMES):
            patch.setenv(name, str(room / name.lower()))
        patch.setenv("TASKENGINE_HOME", str(home))
        yield
