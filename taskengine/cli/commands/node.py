"""`taskengine node`: the servers that work on one store."""

from typing import Any

import click

from taskengine.cli.options import target_options
from taskengine.cli.output import list_options
from taskengine.cli.tree import LazyGroup

__all__ = ["command", "list_command"]


@click.command("list", short_help="list the running servers of a store")
@target_options
@list_options
@click.pass_context
def list_command(context: click.Context, /, **options: Any) -> None:
    """List the servers that work on the store of a server.

    \b
    taskengine node list --json
    """
    from taskengine.cli.verbs import administering

    administering.list_nodes(context.obj, **options)


command = LazyGroup({"list": "node:list_command"}, name="node", help="Running servers.", short_help="running servers")
