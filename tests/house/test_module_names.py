"""A module is named after the one thing it holds."""

from pathlib import Path

import pytest

EVASIVE = frozenset({"common", "core", "helper", "helpers", "manager", "managers", "util", "utils"})


def _evasive(package: Path) -> list[str]:
    """Modules and packages whose name, or the last word of it, says nothing."""
    found = [path for path in package.rglob("*.py") if path.stem.rpartition("_")[2] in EVASIVE]
    found += [path.parent for path in package.rglob("__init__.py") if path.parent.name in EVASIVE]
    return sorted(path.relative_to(package).as_posix() for path in found)


def test_no_module_has_an_evasive_name(package: Path) -> None:
    assert _evasive(package) == []


@pytest.mark.parametrize("name", ["utils.py", "store/common.py", "core/__init__.py", "engine/task_manager.py"])
def test_an_evasive_name_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert len(_evasive(tmp_path)) == 1
