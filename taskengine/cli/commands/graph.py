"""`taskengine workflow graph FILE`: its options. What it does is in `taskengine.cli.verbs.drawing`."""

from typing import Any

import click

__all__ = ["command"]


@click.command("graph", short_help="print the graph of a workflow file")
@click.argument("file")
@click.option("--app", "apps", multiple=True, metavar="FILE", help="A Python file with jobs; may be repeated.")
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "json"]), default="mermaid", show_default=True, help="The form."
)
def command(file: str, **options: Any) -> None:
    """Print the graph of a workflow file. `-` reads stdin.

    \b
    taskengine workflow graph workflow.yaml > graph.mmd
    taskengine workflow graph workflow.yaml --format json
    """
    from taskengine.cli.verbs import drawing

    drawing.draw(file, **options)
