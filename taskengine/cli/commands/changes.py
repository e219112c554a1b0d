"""`taskengine instance pause`, `resume`, `cancel`, `retry`: their options; what they do is in `verbs.changing`.

They take the store's lock and run the engine in this process until the instance rests. While another process has the
store they are refused with its pid.
"""

from typing import Any

import click

from taskengine.cli.options import db_option, engine_options, id_argument
from taskengine.cli.output import output_options

__all__ = ["cancel_command", "pause_command", "resume_command", "retry_command"]


@click.command("pause", short_help="let nothing new of a run start")
@id_argument
@click.option("--now", is_flag=True, help="Interrupt running tasks; they run again after the resume.")
@db_option
@output_options
@click.pass_context
def pause_command(context: click.Context, /, prefix: str, **options: Any) -> None:
    """Pause a run: nothing new starts until `instance resume`."""
    from taskengine.cli.verbs import changing

    changing.pause(context.obj, prefix, **options)


@click.command("cancel", short_help="end a run")
@id_argument
@click.option("--reason", default="", metavar="TEXT", help="Is kept with the instance.")
@db_option
@output_options
@click.pass_context
def cancel_command(context: click.Context, /, prefix: str, **options: Any) -> None:
    """End a run: nothing new starts, what runs is cancelled."""
    from taskengine.cli.verbs import changing

    changing.cancel(context.obj, prefix, **options)


@click.command("resume", short_help="go on with a paused run")
@id_argument
@engine_options
@db_option
@output_options
@click.pass_context
def resume_command(context: click.Context, /, prefix: str, **options: Any) -> int:
    """Go on with a run that is paused or was cut short, in this process, until it rests."""
    from taskengine.cli.verbs import changing

    return changing.resume(context.obj, prefix, **options)


@click.command("retry", short_help="run again what failed")
@id_argument
@click.option("--from", "from_task", metavar="TASK", help="Run TASK and everything below it again.")
@click.option("--only", "only_task", metavar="TASK", help="Run TASK again and nothing else.")
@engine_options
@db_option
@output_options
@click.pass_context
def retry_command(
    context: click.Context, /, prefix: str, from_task: str | None, only_task: str | None, **options: Any
) -> int:
    """Run again what failed, keeping every success, in this process, until the run rests.

    \b
    taskengine instance retry 0192f3c1
    taskengine instance retry 0192f3c1 --from load --app jobs.py
    """
    if from_task is not None and only_task is not None:
        raise click.UsageError("--from and --only exclude each other", context)
    from taskengine.cli.verbs import changing

    return changing.retry(context.obj, prefix, from_task, only_task, **options)
