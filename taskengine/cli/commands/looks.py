"""`taskengine instance list`, `history`, `status`, `events`, `logs`, `watch`: their options."""

from typing import Any

import click

from taskengine.cli.completing import complete
from taskengine.cli.options import (
    Span,
    id_argument,
    of_workflow_option,
    status_option,
    target_options,
    task_option,
    workflow_argument,
)
from taskengine.cli.output import list_options, output_options

__all__ = [
    "diff_command",
    "events_command",
    "history_command",
    "list_command",
    "logs_command",
    "status_command",
    "watch_command",
]

_LIMIT = click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")


@click.command("list", short_help="list instances, the newest first")
@status_option
@of_workflow_option
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only with this label; may be repeated.")
@click.option("--since", metavar="TIME", default="", help="Created in the last 2h, or since 2026-07-31T08:00Z.")
@click.option("--search", metavar="TEXT", default="", help="With this text in id, workflow id or error.")
@_LIMIT
@target_options
@list_options
@click.pass_context
def list_command(context: click.Context, /, **options: Any) -> None:
    """List instances, the newest first.

    \b
    taskengine instance list --status Failed --since 1d
    taskengine instance list -o id
    """
    from taskengine.cli.verbs import instances

    instances.list_instances(context.obj, **options)


@click.command("history", short_help="list the instances of a workflow")
@workflow_argument
@status_option
@_LIMIT
@target_options
@list_options
@click.pass_context
def history_command(context: click.Context, /, workflow_id: str, **options: Any) -> None:
    """List the instances of one workflow, the newest first.

    \b
    taskengine instance history daily-sync --status Failed
    """
    from taskengine.cli.verbs import instances

    instances.show_history(context.obj, workflow_id, **options)


@click.command("status", short_help="show an instance and its tasks")
@id_argument
@target_options
@output_options
@click.pass_context
def status_command(context: click.Context, /, prefix: str, **options: Any) -> None:
    """Show an instance and its tasks. ID may be the beginning of an id.

    \b
    taskengine instance status 0192f3c1
    taskengine instance status 0192f3c1 --json
    """
    from taskengine.cli.verbs import instances

    instances.show_instance(context.obj, prefix, **options)


@click.command("diff", short_help="show in what two instances differ")
@id_argument
@click.argument("other", metavar="OTHER", shell_complete=complete("instances"))
@target_options
@list_options
@click.pass_context
def diff_command(context: click.Context, /, prefix: str, other: str, **options: Any) -> None:
    """Show in what two instances differ: version, params, and each task's status, tries, result and error.

    \b
    taskengine instance diff 0192f3c1 0192f3d7
    taskengine instance diff 0192f3c1 0192f3d7 --json
    """
    from taskengine.cli.verbs import comparing

    comparing.show_differences(context.obj, prefix, other, **options)


@click.command("events", short_help="show what has happened to an instance")
@id_argument
@target_options
@list_options
@click.pass_context
def events_command(context: click.Context, /, prefix: str, **options: Any) -> None:
    """Show everything that was committed about an instance, in its order.

    \b
    taskengine instance events 0192f3c1 -o jsonl
    """
    from taskengine.cli.verbs import instances

    instances.show_events(context.obj, prefix, **options)


@click.command("logs", short_help="print what the tasks of an instance logged")
@id_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the instance has ended; JSON then comes line by line.")
@task_option("--task", help="Only of TASK.")
@click.option("--tail", type=click.IntRange(0, 100_000), metavar="N", help="Only the last N lines that are there.")
@click.option(
    "--since", type=click.IntRange(min=0), default=0, metavar="LINE", help="Only lines behind the one with this id."
)
@target_options
@output_options
@click.pass_context
def logs_command(context: click.Context, /, prefix: str, **options: Any) -> int:
    """Print what the tasks of an instance logged and printed.

    \b
    taskengine instance logs 0192f3c1 --task load --tail 50
    taskengine instance logs 0192f3c1 -f -o jsonl
    """
    from taskengine.cli.verbs import logs

    return logs.show_logs(context.obj, prefix, **options)


@click.command("watch", short_help="watch an instance until it has ended")
@id_argument
@click.option("--logs", is_flag=True, help="Show what tasks log, too.")
@click.option("--timeout", "timeout_s", type=Span(), metavar="SPAN", help="Give up after so long, with exit code 8.")
@target_options
@output_options
@click.pass_context
def watch_command(context: click.Context, /, prefix: str, **options: Any) -> int:
    """Watch an instance until it has ended; the exit code tells how. Ctrl-C leaves it alone.

    \b
    taskengine instance watch 0192f3c1
    taskengine instance watch 0192f3c1 --logs --timeout 10m
    """
    from taskengine.cli.verbs import following

    return following.watch_instance(context.obj, prefix, **options)
