"""`taskengine instance list` and `status`: their options. What they do is in `taskengine.cli.verbs.looks`."""

from typing import Any

import click

from taskengine.cli.options import db_option, id_argument
from taskengine.cli.output import output_options

__all__ = ["list_command", "status_command"]


@click.command("list", short_help="list runs, the newest first")
@click.option("--status", metavar="STATE", help="Only those in this state, e.g. Failed.")
@click.option("--workflow", metavar="ID", help="Only those of this workflow.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@db_option
@output_options
@click.pass_context
def list_command(context: click.Context, /, **options: Any) -> None:
    """List runs, the newest first.

    \b
    taskengine instance list --status Failed
    taskengine instance list -o id
    """
    from taskengine.cli.verbs import looks

    looks.list_runs(context.obj, **options)


@click.command("status", short_help="show a run and its tasks")
@id_argument
@db_option
@output_options
@click.pass_context
def status_command(context: click.Context, /, prefix: str, **options: Any) -> None:
    """Show a run and its tasks. ID may be the beginning of an id.

    \b
    taskengine instance status 0192f3c1
    taskengine instance status 0192f3c1 --json
    """
    from taskengine.cli.verbs import looks

    looks.show_run(context.obj, prefix, **options)
