"""`taskengine explain ID [TASK]`: its options. What it does is in `taskengine.cli.verbs.explaining`."""

from typing import Any

import click

from taskengine.cli.completing import complete
from taskengine.cli.options import id_argument, target_options
from taskengine.cli.output import output_options

__all__ = ["command"]


@click.command("explain", short_help="say why an instance or a task waits or failed, and what would move it on")
@id_argument
@click.argument("task", required=False, metavar="[TASK]", shell_complete=complete("tasks"))
@target_options
@output_options
@click.pass_context
def command(context: click.Context, /, prefix: str, task: str | None, **options: Any) -> None:
    """Say why an instance, or one of its tasks, waits or has ended as it did, and what would move it on.

    \b
    taskengine explain 0192f3c1
    taskengine explain 0192f3c1 report
    """
    from taskengine.cli.verbs import explaining

    explaining.explain(context.obj, prefix, task, **options)
