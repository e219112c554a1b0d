"""Definitions back to text."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taskengine.definition import TaskBuilder, WorkflowBuilder, read_json, read_yaml, to_json, to_mermaid, to_yaml
from taskengine.definition.export import workflow_shape
from taskengine.model.definition import ParamSpec, TaskSpec, WorkflowDefinition, canonical_form


@given(data=st.data())
def test_yaml_reads_back_to_the_same_bytes(valid_definitions, data: st.DataObject) -> None:
    definition = data.draw(valid_definitions)
    assert canonical_form(read_yaml(to_yaml(definition))) == canonical_form(definition)


@given(data=st.data())
def test_json_reads_back_to_the_same_bytes(valid_definitions, data: st.DataObject) -> None:
    definition = data.draw(valid_definitions)
    assert canonical_form(read_json(to_json(definition))) == canonical_form(definition)


@given(data=st.data())
def test_the_builder_takes_any_valid_task_as_it_is(valid_definitions, data: st.DataObject) -> None:
    definition = data.draw(valid_definitions)
    builder = (
        WorkflowBuilder(definition.id)
        .with_task(*definition.tasks)
        .with_params(workflow_shape(definition).get("params", {}))
    )
    assert builder.build().tasks == definition.tasks


@pytest.mark.parametrize(
    "text", ["012", "0o14", "1e5", "on", "1:30", "2024-01-02", "null", "", "<<", "1_000", "~", ".5", "yes"]
)
def test_text_stays_text_for_readers_of_either_yaml(text: str) -> None:
    written = to_yaml(WorkflowDefinition(id="w", description=text + " ", labels={"k": text}))
    assert yaml.safe_load(written)["labels"] == {"k": text}
    assert read_yaml(written).labels == {"k": text}


def test_a_full_file_is_exported_as_people_write_it(full_text: str) -> None:
    exported = to_yaml(read_yaml(full_text))
    for line in ("  env: production", "timeout: 2h", "- name: 等待", "  sleep: 5m", "    max_interval: 1m"):
        assert f"\n{line}\n" in exported
    assert "\\u" not in exported


def test_lines_of_text_are_exported_as_a_block() -> None:
    task = TaskBuilder("a").with_job_function("shell_command", {"script": "echo one\necho 二\n"}).build()
    assert "script: |\n      echo one\n      echo 二\n" in to_yaml(WorkflowBuilder("w").with_task(task).build())


def test_an_object_as_a_default_keeps_its_declaration() -> None:
    definition = WorkflowDefinition(
        id="w", params={"a": ParamSpec(type="object", default={}), "b": ParamSpec(default={"x": 1})}
    )
    assert json.loads(to_json(definition))["params"] == {
        "a": {"type": "object", "default": {}},
        "b": {"default": {"x": 1}},
    }
    assert read_yaml(to_yaml(definition)) == definition


def test_mermaid_draws_dependencies_downwards() -> None:
    definition = read_yaml("id: w\ntasks:\n- {name: 下载, job: noop}\n- {name: end, job: noop, depends_on: [下载]}")
    assert to_mermaid(definition) == 'graph TD\n  n0["下载"]\n  n1["end"]\n  n0 --> n1\n'


def test_a_name_cannot_leave_its_label() -> None:
    drawn = to_mermaid(WorkflowDefinition(id="w", tasks=(TaskSpec(name='a"]; click n0 "x', job="noop"),)))
    assert drawn == 'graph TD\n  n0["a#34;#93;#59; click n0 #34;x"]\n'


def test_an_empty_workflow_is_an_empty_drawing() -> None:
    assert to_mermaid(WorkflowDefinition(id="w")) == "graph TD\n"
