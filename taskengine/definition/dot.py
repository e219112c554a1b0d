"""The graph of a definition in Graphviz' language."""

import re

from taskengine.model.definition import WorkflowDefinition

__all__ = ["to_dot"]


def to_dot(definition: WorkflowDefinition) -> str:
    """A digraph from dependencies to dependents. Nodes are n0, n1, ... in the order of the tasks."""
    numbers = {task.name: at for at, task in enumerate(definition.tasks)}
    lines = [f"digraph {_quoted(definition.id)} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    lines += [
        f"  n{at} [label={_quoted(task.name)}, tooltip={_quoted(task.job)}];"
        for at, task in enumerate(definition.tasks)
    ]
    for at, task in enumerate(definition.tasks):
        lines += [f"  n{numbers[name]} -> n{at};" for name in task.depends_on]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A string of that language: a backslash would begin one of its escapes, such as `\\N` for the node's name."""
    plain = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
