"""tests/conftest.py: what reaches a test and what does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TESTS = Path(__file__).parents[1]

INNER = """
import os
from pathlib import Path

import pytest
from hypothesis import settings

def test_environment():
    assert {name for name in os.environ if name.startswith("TASKENGINE_")} == EXPECTED
    assert "NO_COLOR" not in os.environ
    assert os.environ["XDG_CONFIG_HOME"] != "/dirty"
    assert list(Path(os.environ["TASKENGINE_HOME"]).iterdir()) == []
    os.environ["TASKENGINE_LEFT_BEHIND"] = "1"

def test_next_environment():
    Path(os.environ["TASKENGINE_HOME"], "file").touch()
    assert os.environ.pop("TASKENGINE_LEFT_BEHIND", None) is None

@pytest.mark.parametrize("again", [1, 2])
def test_home_is_new(again):
    assert list(Path(os.environ["TASKENGINE_HOME"]).iterdir()) == []

def test_seeds(simulation_seed_option, simulation_seed_count):
    assert (simulation_seed_option, simulation_seed_count) == (7, 9)

def test_profile():
    assert settings().max_examples == EXAMPLES
"""


def _run_inner(folder: Path, conftest: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(conftest)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir=."]
    return subprocess.run(
        [*command, "--seed=7", "--seeds=9", "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(("torture", "examples"), [("", 50), ("1", 2000)])
def test_nothing_of_the_machine_reaches_a_test(tmp_path: Path, project: Path, torture: str, examples: int) -> None:
    kept = {"TASKENGINE_HOME", "TASKENGINE_TORTURE", "TASKENGINE_TEST_POSTGRESQL"}
    inner = INNER.replace("EXPECTED", repr(kept)).replace("EXAMPLES", str(examples))
    (tmp_path / "test_inner.py").write_text(inner)
    dirt = {
        "TASKENGINE_STORE": "mysql://elsewhere",
        "TASKENGINE_TEST_POSTGRESQL": "postgresql://here",
        "TASKENGINE_TORTURE": torture,
        "NO_COLOR": "1",
        "XDG_CONFIG_HOME": "/dirty",
    }
    conftest = (project / "tests" / "conftest.py").read_text()
    done = _run_inner(tmp_path, conftest, **dirt)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_torture_and_servers_are_deselected_unless_asked_for(pytestconfig: pytest.Config) -> None:
    assert "-m not torture and not servers" in pytestconfig.getini("addopts")


@given(st.booleans())
@settings(max_examples=2)
def test_properties_live_with_the_clean_environment(value: bool) -> None:
    assert Path(os.environ["TASKENGINE_HOME"]).is_dir(), value
