"""The pages that describe the format are true."""

import re
from pathlib import Path

import pytest

from taskengine.definition import later, read_json, read_yaml
from taskengine.definition.decode import PARAM_KEYS, RETENTION_KEYS, RETRY_KEYS, TASK_KEYS, WORKFLOW_KEYS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "workflow-format.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "yaml"])
def test_every_yaml_example_is_read(text: str) -> None:
    read_yaml(text)


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "json"])
def test_every_json_example_is_read(text: str) -> None:
    assert read_json(text) == read_yaml(text)


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "python"])
def test_every_python_example_builds(text: str) -> None:
    names: dict = {}
    exec(text, names)
    assert [task.name for task in names["workflow"].tasks] == ["extract", "load"]


def test_there_are_examples_of_each_kind() -> None:
    assert {language for language, _ in BLOCKS} == {"yaml", "json", "python"}


@pytest.mark.parametrize("key", sorted({*WORKFLOW_KEYS, *TASK_KEYS, *RETRY_KEYS, *RETENTION_KEYS, *PARAM_KEYS}))
def test_every_key_stands_on_the_page(key: str) -> None:
    assert re.search(rf"`{key}`|^\s*{key}: ", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    sorted({*later.LATER_TASK, *later.LATER_WORKFLOW, *later.LATER_ROOTS, *later.LATER_BUILDER}
           | {f"{key}: {value}" for key, values in later.LATER_VALUES.items() for value in values}),
)  # fmt: skip
def test_everything_refused_as_later_stands_on_its_page(name: str) -> None:
    assert f"`{name}`" in (DOCS / "not-yet.md").read_text()
