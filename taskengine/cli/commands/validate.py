"""`taskengine validate FILE...`: its options. What it does is in `taskengine.cli.verbs.checking`."""

from collections.abc import Sequence
from typing import Any

import click

from taskengine.cli.options import app_option
from taskengine.cli.output import output_options

__all__ = ["command"]


@click.command("validate", short_help="check workflow files and report every problem")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@app_option
@output_options
def command(files: Sequence[str], **options: Any) -> int:
    """Check workflow files. `-` reads stdin.

    \b
    taskengine validate workflow.yaml --app jobs.py
    taskengine validate *.yaml --json
    """
    from taskengine.cli.verbs import checking

    return checking.validate(files, **options)
