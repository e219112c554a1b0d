"""`taskengine function`: what tasks can call."""

from typing import Any

import click

from taskengine.cli.completing import complete
from taskengine.cli.options import app_option, target_options
from taskengine.cli.output import list_options, output_options
from taskengine.cli.tree import LazyGroup

__all__ = ["command", "list_command", "show_command"]


@click.command("list", short_help="list the job functions")
@app_option
@target_options
@list_options
@click.pass_context
def list_command(context: click.Context, /, **options: Any) -> None:
    """List the job functions of a server, or those that a run here would have.

    \b
    taskengine function list --app jobs.py
    """
    from taskengine.cli.verbs import administering

    administering.list_functions(context.obj, **options)


@click.command("show", short_help="show a job function with its signature")
@click.argument("name", shell_complete=complete("functions"))
@app_option
@target_options
@output_options
@click.pass_context
def show_command(context: click.Context, /, name: str, **options: Any) -> None:
    """Show a job function with its signature and its text.

    \b
    taskengine function show http_request
    """
    from taskengine.cli.verbs import administering

    administering.show_function(context.obj, name, **options)


command = LazyGroup(
    {"list": "function:list_command", "show": "function:show_command"},
    name="function",
    help="Job functions: what tasks can call.",
    short_help="job functions: list, show",
)
