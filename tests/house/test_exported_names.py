"""Each package says what outsiders may use, and it is there."""

import ast
import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "taskengine"
PACKAGES = sorted(".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py"))


def _listed(source: str) -> list[str] | None:
    """The literal value of `__all__`, or None when the module has none."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value: list[str] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            return value
    return None


def _rank(name: str) -> tuple[int, list[int | str]]:
    """Constants, then classes, then the rest, numbers by value: the order that `ruff format` users know (RUF022)."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _faults(listed: list[str] | None) -> str:
    if listed is None:
        return "no __all__"
    if len(set(listed)) < len(listed):
        return "a name twice"
    return "" if listed == sorted(listed, key=_rank) else "not sorted"


@pytest.mark.parametrize("name", PACKAGES)
def test_package_lists_its_names_in_order(name: str) -> None:
    source = PACKAGE.parent.joinpath(*name.split("."), "__init__.py").read_text(encoding="utf-8")
    assert _faults(_listed(source)) == ""


@pytest.mark.parametrize("name", PACKAGES)
def test_listed_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", "no __all__"),
        ("__all__ = ['b', 'a']", "not sorted"),
        ("__all__: list[str] = ['b', 'a']", "not sorted"),
        ("__all__ = ['a', 'B']", "not sorted"),
        ("__all__ = ['a', 'a']", "a name twice"),
        ("__all__ = ['LIMIT', 'Actor', 'uuid4', 'uuid7', 'uuid10']", ""),
    ],
)
def test_a_fault_is_found(source: str, fault: str) -> None:
    assert _faults(_listed(source)) == fault
