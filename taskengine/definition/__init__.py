"""Definitions from YAML, JSON and Python to the canonical form of the model, and back to text."""

from taskengine.definition.builder import TaskBuilder, WorkflowBuilder
from taskengine.definition.export import to_json, to_mermaid, to_yaml
from taskengine.definition.reader import MAX_BYTES, read_file, read_json, read_yaml

__all__ = [
    "MAX_BYTES",
    "TaskBuilder",
    "WorkflowBuilder",
    "read_file",
    "read_json",
    "read_yaml",
    "to_json",
    "to_mermaid",
    "to_yaml",
]
