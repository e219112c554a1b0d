"""Options that several commands share. A flag is stronger than its TASKENGINE_… variable, that one than the default.

Options that belong together reach a command as one record.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from taskengine.cli.completing import complete

__all__ = [
    "SERVER_VARIABLE",
    "EngineOptions",
    "PoolText",
    "Span",
    "Where",
    "app_option",
    "db_option",
    "engine_options",
    "id_argument",
    "of_workflow_option",
    "status_option",
    "target_options",
    "task_option",
    "workflow_argument",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

SERVER_VARIABLE: Final = "TASKENGINE_SERVER"


class EngineOptions(NamedTuple):
    """What an engine in this process is told.

    workers    None: what the run was started with, else 20
    pools      such as `api=5@50/s`; none: what the run was started with
    follow     show what tasks log, too
    typed      flags among them that somebody typed, such as `--app`
    """

    apps: tuple[str, ...] = ()
    workers: int | None = None
    pools: tuple[str, ...] = ()
    follow: bool = False
    log_level: str = "warning"
    typed: tuple[str, ...] = ()


class Where(NamedTuple):
    """Which instances and workflows a command is about. All empty: the server of this machine, else its runs.

    server      an address
    token_file  for that server
    dsn         a database, instead of a server
    runs        the runs of this machine, instead of either
    """

    server: str = ""
    token_file: str = ""
    dsn: str = ""
    runs: bool = False


app_option: Final = click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="A Python file with jobs; may be repeated.",
)


status_option: Final = click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATE",
    shell_complete=complete("states"),
    help="Only those in this state, e.g. Failed; may be repeated.",
)

of_workflow_option: Final = click.option(
    "--workflow", metavar="ID", shell_complete=complete("workflows"), help="Only those of this workflow."
)


def engine_options(command: _Command) -> _Command:
    """`engine: EngineOptions`."""
    options = (
        app_option,
        click.option(
            "-j",
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            envvar="TASKENGINE_EXECUTION__WORKER_CONCURRENCY",
            help="How many tasks run at the same time.  [default: 20]",
        ),
        click.option(
            "--pool",
            "pools",
            multiple=True,
            metavar="NAME=SLOTS[@RATE]",
            type=PoolText(),
            envvar="TASKENGINE_EXECUTION__POOLS",
            help="A pool for tasks, such as api=5@50/s; may be repeated.",
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

    def record(**given: Any) -> EngineOptions:
        return EngineOptions(typed=_typed(given), **given)

    return _packed(command, options, "engine", record, EngineOptions._fields[:-1])


def target_options(command: _Command) -> _Command:
    """`where: Where`."""
    options = (
        click.option(
            "--server",
            metavar="URL",
            default="",
            help=f"A server.  [default: ${SERVER_VARIABLE}, else the one that runs here]",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            default="",
            type=click.Path(),
            help="A file with the token for it.  [default: $TASKENGINE_TOKEN_FILE]",
        ),
        click.option(
            "--db", "dsn", metavar="DSN", default="", type=click.Path(), help="A database here, without a server."
        ),
        click.option("--runs", is_flag=True, help="The runs of this machine, not the server."),
    )
    return _packed(command, options, "where", Where, Where._fields)


def db_option(command: _Command) -> _Command:
    """`dsn`: another store than the run's own."""
    return click.option(
        "--db",
        "dsn",
        default="",
        metavar="DSN",
        type=click.Path(),
        help="The store: a path or sqlite:///path.  [default: each run has its own]",
    )(command)


def id_argument(command: _Command) -> _Command:
    """`prefix`: an instance by the beginning of its id."""
    return click.argument("prefix", metavar="ID", shell_complete=complete("instances"))(command)


def workflow_argument(command: _Command) -> _Command:
    """`workflow_id`: all of it."""
    return click.argument("workflow_id", metavar="WORKFLOW_ID", shell_complete=complete("workflows"))(command)


def task_option(*names: str, help: str) -> Callable[[_Command], _Command]:
    """The name of a task of the instance `prefix`."""
    return click.option(*names, metavar="TASK", shell_complete=complete("tasks"), help=help)


class PoolText(click.ParamType[str]):
    """A pool such as api=5@50/s, as a text that is right. A variable has several, with commas between them."""

    name = "pool"
    envvar_list_splitter = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from taskengine.model.pools import parse_pool

        try:
            return str(parse_pool(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Span(click.ParamType[float]):
    """A duration such as 90s or 10m, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from taskengine.model.durations import parse_duration

        try:
            return parse_duration(value) / 1_000_000
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _typed(names: Collection[str]) -> tuple[str, ...]:
    """The flags of those parameters that stand on the command line."""
    context = click.get_current_context()
    return tuple(
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    )


def _packed(
    command: _Command,
    options: Collection[Callable[[_Command], _Command]],
    name: str,
    record: Callable[..., Any],
    fields: Collection[str],
) -> _Command:
    """The options, handed to the command as the one keyword `name`."""

    @functools.wraps(command)
    def pack(*arguments: Any, **given: Any) -> Any:
        packed = record(**{field: given.pop(field) for field in fields})
        return command(*arguments, **given, **{name: packed})

    for option in reversed(tuple(options)):
        pack = option(pack)
    return pack  # type: ignore[return-value]
