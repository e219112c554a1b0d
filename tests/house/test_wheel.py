"""The wheel holds what runs: code, SQL and the typing mark; and the version that the program says."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from taskengine.version import VERSION


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, with one more SQL file, by the locked builder and so without a network."""
    copy = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(project / name, copy)
    shutil.copytree(project / "taskengine", copy / "taskengine", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "taskengine" / "store" / "sql").mkdir(parents=True, exist_ok=True)
    (copy / "taskengine" / "store" / "sql" / "one_more.sql").write_text("SELECT 1;\n")
    (copy / "taskengine" / "__pycache__").mkdir()
    (copy / "taskengine" / "__pycache__" / "left.pyc").touch()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"],
        cwd=copy,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (built,) = (copy / "out").glob("*.whl")
    return built


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_everything_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    tree = wheel.parents[1]
    files = {p.relative_to(tree).as_posix() for p in (tree / "taskengine").rglob("*") if p.is_file()}
    assert {name for name in _names(wheel) if name.startswith("taskengine/")} == {
        name for name in files if "__pycache__" not in name
    }


def test_sql_and_typing_mark_are_in_the_wheel(wheel: Path) -> None:
    assert {"taskengine/py.typed", "taskengine/store/sql/one_more.sql"} <= _names(wheel)


def test_wheel_holds_one_package_and_the_licence(wheel: Path) -> None:
    facts = f"taskengine-{VERSION}.dist-info"
    assert {name.partition("/")[0] for name in _names(wheel)} == {"taskengine", facts}
    assert f"{facts}/licenses/LICENSE" in _names(wheel)


def test_wheel_has_the_version_of_the_program(wheel: Path) -> None:
    assert wheel.name == f"taskengine-{VERSION}-py3-none-any.whl"
