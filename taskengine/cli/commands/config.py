"""`taskengine config`: the settings of a server, as they would be."""

from typing import Any

import click

from taskengine.cli.output import list_options
from taskengine.cli.settings import settings_options
from taskengine.cli.tree import LazyGroup

__all__ = ["command", "show"]

command = LazyGroup(
    {"show": "config:show"},
    name="config",
    help="Look at the settings of a server.",
    short_help="look at the settings of a server: show",
)


@click.command("show", short_help="every setting with its value")
@click.option("--origin", is_flag=True, help="Where each value comes from: flag, environment, file or default.")
@settings_options
@list_options
def show(origin: bool, **options: Any) -> int:
    """Every setting of `taskengine serve` with the same options, environment and file.

    \b
    taskengine config show --origin
    taskengine config show --config server.yaml -o yaml

    Without --origin, `-o yaml` prints a configuration file. Passwords are never shown.
    """
    from taskengine.cli.verbs import configuring

    return configuring.show(options, origin=origin)
