"""`taskengine serve`: its options. What it does is in `taskengine.cli.verbs.serving`."""

from typing import Any

import click

from taskengine.cli.settings import settings_options

__all__ = ["command"]


@click.command("serve", short_help="run a server: the API, the engine, everything")
@settings_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> int:
    """Run a server until Ctrl-C or SIGTERM.

    \b
    taskengine serve
    taskengine serve --port 9000 --app jobs.py
    taskengine serve --config server.yaml

    The first start makes a token and says where it is. The first Ctrl-C lets running tasks finish within the grace
    and saves the rest; the second one leaves at once. `taskengine config show --origin` says what is set and why.
    """
    from taskengine.cli.verbs import serving

    return serving.serve(context.obj, options)
