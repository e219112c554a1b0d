"""`taskengine workflow graph FILE`: the graph of a definition as text that other tools draw."""

from collections.abc import Sequence
from typing import Any, Final

import click

from taskengine.cli.definitions import known_jobs, load_definition
from taskengine.cli.output import json_text, write_text
from taskengine.cli.safe import clean
from taskengine.cli.terminal import is_terminal
from taskengine.model.definition import Trigger, WorkflowDefinition, canonical_form, version_of

__all__ = ["command", "graph_data", "mermaid"]

_ENTITIES: Final = str.maketrans({"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"})


@click.command("graph", short_help="print the graph of a workflow file")
@click.argument("file")
@click.option("--app", "apps", multiple=True, metavar="FILE", help="A Python file with jobs; may be repeated.")
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "json"]), default="mermaid", show_default=True, help="The form."
)
def command(file: str, apps: Sequence[str], form: str) -> None:
    """Print the graph of a workflow file. `-` reads stdin.

    \b
    taskengine workflow graph workflow.yaml > graph.mmd
    taskengine workflow graph workflow.yaml --format json
    """
    import sys

    # Without --app any job name will do: a drawing runs nothing.
    definition = load_definition(file, known_jobs(apps) if apps else None)
    if form == "json":
        write_text(json_text(graph_data(definition), pretty=is_terminal(sys.stdout)))
    else:
        write_text(mermaid(definition))


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


def mermaid(definition: WorkflowDefinition) -> str:
    """A Mermaid flowchart. Tasks with a condition are rhombic, edges of an unusual trigger name it."""
    number = {task.name: at for at, task in enumerate(definition.tasks)}
    lines = [f"%% {clean(definition.title)}", "flowchart LR"]
    for task in definition.tasks:
        opening, closing = ('{"', '"}') if task.when else ('["', '"]')
        lines.append(f"    t{number[task.name]}{opening}{_label(task.name)}{closing}")
    for task in definition.tasks:
        words = "" if task.trigger is Trigger.ALL_SUCCESS else f"|{task.trigger.value}|"
        lines += [f"    t{number[before]} -->{words} t{number[task.name]}" for before in task.depends_on]
    return "\n".join(lines)


def _label(text: str) -> str:
    return clean(text).translate(_ENTITIES)
