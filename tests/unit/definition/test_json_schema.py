"""The published schema and the reader agree."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taskengine.definition import json_schema, read_json, read_yaml, to_json
from taskengine.definition.decode import (
    COMPENSATION_KEYS,
    PARAM_KEYS,
    RETENTION_KEYS,
    RETRY_KEYS,
    TASK_KEYS,
    WORKFLOW_KEYS,
)
from taskengine.definition.later import LATER_TASK, LATER_WORKFLOW
from taskengine.errors import InvalidDefinition

ROOT = Path(__file__).parents[3]
SCHEMA = jsonschema_rs.Draft202012Validator(json_schema())
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
PAGE = (ROOT / "docs" / "workflow-format.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
BASE = {"id": "w", "tasks": [{"name": "a", "job": "noop"}]}


def _plain(text: str) -> Any:
    """What the reader hands to its decoder: the core schema of YAML 1.2."""
    return json.loads(to_json(read_yaml(text)))


def _with(**task: Any) -> dict[str, Any]:
    return {"id": "w", "tasks": [{"name": "a", "job": "noop", **task}]}


def _reader_takes(value: Any) -> bool:
    try:
        read_json(json.dumps(value))
    except InvalidDefinition:
        return False
    return True


def test_the_schema_is_a_schema() -> None:
    assert jsonschema_rs.meta.is_valid(json_schema())


def test_the_schema_may_be_changed_without_changing_the_next_one() -> None:
    json_schema()["properties"].clear()
    assert set(json_schema()["properties"]) == set(WORKFLOW_KEYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_fits(path: Path) -> None:
    SCHEMA.validate(yaml.safe_load(path.read_text()))
    SCHEMA.validate(_plain(path.read_text()))


@pytest.mark.parametrize("text", BLOCKS)
def test_every_example_of_the_page_fits(text: str) -> None:
    SCHEMA.validate(_plain(text))


def test_a_text_with_every_key_fits(full_text: str) -> None:
    SCHEMA.validate(_plain(full_text))


@given(st.data())
def test_what_the_reader_takes_the_schema_takes(valid_definitions: Any, data: st.DataObject) -> None:
    definition = data.draw(valid_definitions)
    SCHEMA.validate(json.loads(to_json(definition)))


@pytest.mark.parametrize(
    "value",
    [
        {"id": "w"},
        {"id": "每日-同步", "name": "每日 同步"},
        _with(retry=3),
        _with(retry={"count": 1, "interval": 0.5, "on": "TimeoutError"}),
        _with(timeout="1h30m"),
        _with(timeout="1.5h"),
        _with(timeout=90),
        _with(when=True),
        _with(when="1 > 0"),
        _with(depends_on=[]),
        _with(params={"deep": [{"x": None}]}),
        {"id": "w", "tasks": [{"name": "a", "sleep": "5m"}]},
        {"id": "w", "tasks": [{"name": "a", "sleep": "${{ params.d }}"}]},
        {"id": "w", "params": {"a": 1, "b": None, "c": [1], "d": {"type": "integer", "minimum": 1}, "名": "x"}},
        {"id": "w", "retention": {"success": "30d", "failed": "none"}},
        {"id": "w", "retention": {"success": None}},
        {"id": "w", "retention": {"failed": "off"}},
        {"id": "w", "retention": {"failed": 86400}},
        {"id": "w", "labels": {"team": "quant"}, "mode": "batch", "on_failure": "cancel", "max_concurrent_tasks": 1},
    ],
    ids=repr,
)
def test_both_take(value: dict[str, Any]) -> None:
    assert _reader_takes(value)
    assert SCHEMA.is_valid(value)


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        {},
        {"id": 12},
        {"id": ""},
        {"id": "a b"},
        {"id": "a/b"},
        {**BASE, "task": []},
        {**BASE, "tasks": {}},
        {**BASE, "tasks": ["a"]},
        {**BASE, "labels": {"a": 1}},
        {**BASE, "labels": {"": "x"}},
        {**BASE, "labels": ["a"]},
        {**BASE, "params": []},
        {**BASE, "params": {"a b": 1}},
        {**BASE, "params": {"a": {"typ": "string"}}},
        {**BASE, "params": {"a": {"type": "text"}}},
        {**BASE, "params": {"a": {"enum": 3}}},
        {**BASE, "params": {"a": {"required": "yes"}}},
        {**BASE, "max_concurrent_tasks": 0},
        {**BASE, "max_concurrent_tasks": "3"},
        {**BASE, "max_concurrent_tasks": 1.5},
        {**BASE, "timeout": "soon"},
        {**BASE, "timeout": True},
        {**BASE, "timeout": -1},
        {**BASE, "on_failure": "ignore"},
        {**BASE, "mode": "streaming"},
        {**BASE, "retention": "30d"},
        {**BASE, "retention": {}},
        {**BASE, "retention": {"succeeded": "30d"}},
        {**BASE, "retention": {"success": "never"}},
        {**BASE, "retention": {"failed": -1}},
        {**BASE, "name": None},
        {"id": "w", "tasks": [{"job": "noop"}]},
        {"id": "w", "tasks": [{"name": "a"}]},
        {"id": "w", "tasks": [{"name": "a", "job": "noop", "sleep": "1s"}]},
        {"id": "w", "tasks": [{"name": "a", "sleep": "1s", "params": {}}]},
        _with(depend_on=["b"]),
        _with(depends_on=3),
        _with(depends_on=[3]),
        _with(params=[]),
        _with(trigger="all"),
        _with(executor=""),
        _with(executor="cluster"),
        _with(at_most_once="yes"),
        _with(continue_on_failure=1),
        _with(pool=""),
        _with(pool="a b"),
        _with(pool=1),
        _with(priority="high"),
        _with(priority=1001),
        _with(priority=-1001),
        _with(priority=0.5),
        _with(retry="3"),
        _with(retry=-1),
        _with(retry={}),
        _with(retry={"count": 1, "jitter": 2}),
        _with(retry={"count": 1, "backoff": 0.5}),
        _with(retry={"count": 1, "every": "1s"}),
        _with(required_params=[1]),
        _with(result_mapping={"a": 1}),
        _with(when=1),
        _with(timeout=""),
        _with(description=7),
        *({**BASE, key: {}} for key in sorted(LATER_WORKFLOW)),
        *(_with(**{key: {}}) for key in sorted(LATER_TASK)),
    ],
    ids=repr,
)
def test_both_refuse(value: Any) -> None:
    assert not _reader_takes(value)
    assert not SCHEMA.is_valid(value)


def test_the_notes_are_of_keys_that_exist_and_every_key_has_one() -> None:
    schema = json_schema()
    parts = (schema, *(schema["$defs"][name] for name in ("task", "retry", "compensation", "retention", "param")))
    tables = (WORKFLOW_KEYS, TASK_KEYS, RETRY_KEYS, COMPENSATION_KEYS, RETENTION_KEYS, PARAM_KEYS)
    for part, table in zip(parts, tables, strict=True):
        assert set(part["properties"]) == set(table)
        assert all(each["description"] for each in part["properties"].values())
