"""Options that several commands share. A flag is stronger than its TASKENGINE_… variable, that one than the default."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["db_option", "engine_options", "id_argument"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def engine_options(command: _Command) -> _Command:
    """What an engine in this process is told: `apps`, `workers`, `follow`, `log_level`."""
    for option in reversed(
        (
            click.option(
                "--app", "apps", multiple=True, metavar="FILE", help="A Python file with jobs; may be repeated."
            ),
            click.option(
                "-j",
                "--workers",
                type=click.IntRange(min=1),
                metavar="N",
                envvar="TASKENGINE_EXECUTION__WORKER_CONCURRENCY",
                help="How many tasks run at the same time.  [default: 20]",
            ),
            click.option("--follow", is_flag=True, help="Show what tasks log, too."),
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
                default="warning",
                show_default=True,
                envvar="TASKENGINE_GENERAL__LOG_LEVEL",
                help="Messages of the engine itself.",
            ),
        )
    ):
        command = option(command)
    return command


def db_option(command: _Command) -> _Command:
    """`dsn`: another store than the runs' own."""
    return click.option(
        "--db",
        "dsn",
        default="",
        metavar="DSN",
        help="The store: a path or sqlite:///path.  [default: each run has its own]",
    )(command)


def id_argument(command: _Command) -> _Command:
    """`prefix`: an instance by the beginning of its id."""
    return click.argument("prefix", metavar="ID")(command)
