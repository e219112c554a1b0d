"""`taskengine doctor`: its options. What it does is in `taskengine.cli.verbs.doctoring`."""

from typing import Any

import click

from taskengine.cli.output import output_options
from taskengine.cli.settings import settings_options

__all__ = ["command"]


@click.command("doctor", short_help="check configuration, database and machine, and say how to mend")
@settings_options
@output_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Check what a server needs; nothing is changed.

    \b
    taskengine doctor
    taskengine doctor --config server.yaml --json

    Each line is ok, warn or fail, with what to do. The exit code is 0 when nothing failed, else 1.
    """
    from taskengine.cli.verbs import doctoring

    return doctoring.examine(context.obj, options)
