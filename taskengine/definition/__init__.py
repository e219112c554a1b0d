"""Definitions from YAML, JSON and Python to the canonical form of the model, and back to text and drawings."""

from taskengine.definition.ascii import to_ascii
from taskengine.definition.builder import TaskBuilder, WorkflowBuilder, added_task
from taskengine.definition.dot import to_dot
from taskengine.definition.export import to_json, to_mermaid, to_yaml, workflow_shape
from taskengine.definition.reader import MAX_BYTES, read_file, read_json, read_yaml
from taskengine.definition.schema import json_schema
from taskengine.definition.svg import to_svg

__all__ = [
    "MAX_BYTES",
    "TaskBuilder",
    "WorkflowBuilder",
    "added_task",
    "json_schema",
    "read_file",
    "read_json",
    "read_yaml",
    "to_ascii",
    "to_dot",
    "to_json",
    "to_mermaid",
    "to_svg",
    "to_yaml",
    "workflow_shape",
]
