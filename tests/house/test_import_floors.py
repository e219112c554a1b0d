"""The floors in pyproject.toml hold, and they would notice if they did not."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ORDER = (
    {"__main__"},
    {"cli", "pyz"},
    {"server"},
    {"api", "assembly"},
    {"engine", "plugins", "client"},
    {"definition", "functions", "store"},
    {"actors", "bus", "config", "expressions", "telemetry", "wire"},
    {"ambient"},
    {"model"},
    {"clock", "errors", "probe", "version"},
)
"""The floors as docs and contract promise them, top first."""


def _lint(folder: Path, configuration: Path) -> subprocess.CompletedProcess[str]:
    # A process of its own: the linter imports the package it looks at, and this one has the real taskengine.
    code = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-logo", "--no-cache", "--config", str(configuration)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _build(folder: Path, sources: dict[str, str]) -> Path:
    """A package `taskengine` with every floor present and empty, but for what `sources` says."""
    root = folder / "taskengine"
    root.mkdir()
    (root / "__init__.py").touch()
    for name in set().union(*ORDER):
        (root / f"{name}.py").write_text(sources.get(name, ""))
    for name in sources.keys() - set().union(*ORDER):
        (root / f"{name}.py").write_text(sources[name])
    return folder


def test_floors_hold(project: Path) -> None:
    done = _lint(project, project / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_contract_has_the_promised_order(project: Path) -> None:
    settings = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["importlinter"]
    (floors,) = [contract for contract in settings["contracts"] if contract["id"] == "floors"]
    assert floors["exhaustive"]
    assert not floors.keys() & {"exhaustive_ignores", "ignore_imports"}
    assert tuple(set(re.findall(r"\w+", layer)) for layer in floors["layers"]) == ORDER


def test_an_empty_house_is_green(project: Path, tmp_path: Path) -> None:
    done = _lint(_build(tmp_path, {}), project / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ({"clock": "import taskengine.ambient"}, "taskengine.clock is not allowed to import taskengine.ambient"),
        ({"model": "from taskengine import engine"}, "taskengine.model is not allowed to import taskengine.engine"),
        ({"api": "import taskengine.assembly"}, "taskengine.api is not allowed to import taskengine.assembly"),
        ({"store": "def f():\n    import taskengine.definition"}, "taskengine.store is not allowed"),
        ({"manners": ""}, "taskengine.manners"),
    ],
    ids=["upwards", "through the root", "neighbour", "deferred", "no floor"],
)
def test_a_broken_floor_is_red(project: Path, tmp_path: Path, sources: dict[str, str], complaint: str) -> None:
    done = _lint(_build(tmp_path, sources), project / "pyproject.toml")
    assert done.returncode == 1
    assert complaint in done.stdout
