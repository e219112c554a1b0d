"""What `taskengine workflow graph` does: the graph of a definition as text that other tools draw."""

import sys
from collections.abc import Sequence
from typing import Any

from taskengine.cli.local.definitions import known_jobs, load_definition
from taskengine.cli.output import json_text, write_text
from taskengine.cli.terminal import is_terminal
from taskengine.definition import to_mermaid
from taskengine.model.definition import WorkflowDefinition, canonical_form, version_of

__all__ = ["draw", "graph_data"]


def draw(file: str, *, apps: Sequence[str], form: str) -> None:
    """`form`: mermaid or json. Without job files any job name will do: a drawing runs nothing."""
    definition = load_definition(file, known_jobs(apps) if apps else None)
    if form == "json":
        write_text(json_text(graph_data(definition), pretty=is_terminal(sys.stdout)))
    else:
        write_text(to_mermaid(definition).rstrip())


def graph_data(definition: WorkflowDefinition) -> dict[str, Any]:
    """Nodes in definition order; an edge leads from a dependency to its dependent."""
    return {
        "id": definition.id,
        "name": definition.title,
        "version": version_of(canonical_form(definition)),
        "nodes": [
            {"name": task.name, "job": task.job, "trigger": task.trigger.value, "when": task.when or None}
            for task in definition.tasks
        ],
        "edges": [{"from": before, "to": task.name} for task in definition.tasks for before in task.depends_on],
    }
