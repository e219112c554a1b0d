"""`taskengine db`: looking after a database."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from taskengine.cli.options import Span, of_workflow_option, status_option, target_options
from taskengine.cli.output import list_options, output_options
from taskengine.cli.tree import LazyGroup

__all__ = ["backup_command", "command", "migrate_command", "move_command", "prune_command", "status_command"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_CONFIG: Final = click.option(
    "--config", metavar="FILE", default="", help="The configuration of a server, for its database."
)


def _database_options(command: _Command) -> _Command:
    """`dsn` and `config`."""
    named = click.option(
        "--db",
        "dsn",
        metavar="DSN",
        default="",
        type=click.Path(),
        help="The database.  [default: that of the configuration, else of the server that runs here]",
    )
    return named(_CONFIG(command))


@click.command("status", short_help="what a database holds, its schema, and who has it")
@click.option("--checksums", is_flag=True, help="Read all of it, and print what each table adds up to.")
@_CONFIG
@target_options
@list_options
@click.pass_context
def status_command(context: click.Context, /, **options: Any) -> None:
    """Show size, schema, holder, instances by state, and rows of each table; `~` marks an estimate.

    \b
    taskengine db status
    taskengine db status --db data/task-engine.db --checksums
    taskengine db status --db 'postgresql://engine:${ENV:PGPASSWORD}@db.example/engine' --json
    """
    from taskengine.cli.verbs import databases

    databases.show_status(context.obj, **options)


@click.command("migrate", short_help="bring the schema of a database up to this program's")
@click.option("--check", is_flag=True, help="Say what is missing, and change nothing. Exit code 1: something is.")
@_database_options
@output_options
@click.pass_context
def migrate_command(context: click.Context, /, **options: Any) -> int:
    """Take the steps that the schema lacks. A server does the same when it starts.

    \b
    taskengine db migrate --check --config server.yaml
    taskengine db migrate --db data/task-engine.db
    """
    from taskengine.cli.verbs import databases

    return databases.migrate(context.obj, **options)


@click.command("backup", short_help="copy a SQLite database while its server goes on")
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--force", is_flag=True, help="Replace FILE.")
@_database_options
@output_options
@click.pass_context
def backup_command(context: click.Context, /, **options: Any) -> int:
    """Copy a SQLite database into FILE, checked and synced; its server goes on meanwhile.

    \b
    taskengine db backup /backup/monday.db
    taskengine db backup /backup/latest.db --db data/task-engine.db --force

    PostgreSQL and MySQL have programs of their own for this: their command lines are printed, nothing is done.
    """
    from taskengine.cli.verbs import backing_up

    return backing_up.back_up_database(context.obj, **options)


@click.command("move", short_help="all rows of one database into another one of any kind")
@click.argument("source", metavar="FROM", type=click.Path())
@click.argument("target", metavar="TO", type=click.Path())
@click.option("--resume", is_flag=True, help="Go on with a move that was cut off.")
@list_options
@click.pass_context
def move_command(context: click.Context, /, **options: Any) -> int:
    """Copy everything from one database into another, empty one, and compare both.

    \b
    taskengine db move data/task-engine.db 'postgresql://engine:${ENV:PGPASSWORD}@db.example/engine'
    taskengine db move FROM TO --resume

    No server may run on either of them. FROM is only read. Until both were found equal, no server opens TO.
    """
    from taskengine.cli.verbs import moving

    return moving.move_database(context.obj, **options)


@click.command("prune", short_help="remove ended instances now")
@click.option(
    "--older-than",
    type=Span(),
    metavar="SPAN",
    help="Those that ended so long ago, such as 30d.  [default: whose retention is over]",
)
@status_option
@of_workflow_option
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_CONFIG
@target_options
@output_options
@click.pass_context
def prune_command(context: click.Context, /, **options: Any) -> int:
    """Remove ended instances with their tasks, events, logs and results.

    \b
    taskengine db prune --dry-run
    taskengine db prune --older-than 7d --status Success
    taskengine db prune --workflow daily-sync --older-than 0s --yes

    A server does this by itself every ten minutes, as its retention says. Unfinished instances stay, and for 24 hours
    those with an idempotency key.
    """
    from taskengine.cli.verbs import pruning

    return pruning.prune_database(context.obj, **options)


command = LazyGroup(
    {
        "status": "db:status_command",
        "migrate": "db:migrate_command",
        "backup": "db:backup_command",
        "move": "db:move_command",
        "prune": "db:prune_command",
    },
    name="db",
    help="Databases: how one is, its schema, a copy of it, its move to another kind, what is old in it.",
    short_help="look after a database: status, migrate, backup, move, prune",
)
