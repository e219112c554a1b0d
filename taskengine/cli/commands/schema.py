"""`taskengine schema`: the JSON Schema of workflow files."""

import click

__all__ = ["command"]


@click.command("schema", short_help="print the JSON Schema of workflow files")
def command() -> None:
    """Print the JSON Schema of workflow files, for editors and other tools.

    \b
    taskengine schema > workflow.schema.json
    """
    import sys

    from taskengine.cli.output import json_text, write_text
    from taskengine.cli.terminal import is_terminal
    from taskengine.definition import json_schema

    write_text(json_text(json_schema(), pretty=is_terminal(sys.stdout)))
