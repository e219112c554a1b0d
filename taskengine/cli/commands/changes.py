"""What changes an instance, `taskengine instance pause` and others: their options; what they do is in `verbs`.

A server is told. A store of this machine is locked, and the engine runs in this process until the instance rests;
while another process has the store they are refused with its pid.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from taskengine.cli.options import engine_options, id_argument, target_options, task_option
from taskengine.cli.output import output_options

__all__ = [
    "approve_command",
    "cancel_command",
    "fork_command",
    "pause_command",
    "reject_command",
    "resume_command",
    "retry_command",
    "signal_command",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.command("pause", short_help="let nothing new of an instance start")
@id_argument
@click.option("--now", is_flag=True, help="Interrupt running tasks; they run again after the resume.")
@target_options
@output_options
@click.pass_context
def pause_command(context: click.Context, /, prefix: str, **options: Any) -> None:
    """Pause an instance: nothing new starts until `instance resume`.

    \b
    taskengine instance pause 0192f3c1 --now
    """
    from taskengine.cli.verbs import changing

    changing.pause(context.obj, prefix, **options)


@click.command("cancel", short_help="end an instance")
@id_argument
@click.option("--reason", default="", metavar="TEXT", help="Is kept with the instance.")
@click.option("--compensate", is_flag=True, help="Undo then what its tasks have done.")
@target_options
@output_options
@click.pass_context
def cancel_command(context: click.Context, /, prefix: str, **options: Any) -> None:
    """End an instance: nothing new starts, what runs is cancelled.

    \b
    taskengine instance cancel 0192f3c1 --reason "wrong date"
    taskengine instance cancel 0192f3c1 --compensate
    """
    from taskengine.cli.verbs import changing

    changing.cancel(context.obj, prefix, **options)


@click.command("resume", short_help="go on with a paused instance")
@id_argument
@engine_options
@target_options
@output_options
@click.pass_context
def resume_command(context: click.Context, /, prefix: str, **options: Any) -> int:
    """Go on with an instance that is paused.

    On a server it goes on there; `--follow` watches it. A run of this machine, also one that was cut short, goes on in
    this process until it rests.

    \b
    taskengine instance resume 0192f3c1
    """
    from taskengine.cli.verbs import changing

    return changing.resume(context.obj, prefix, **options)


@click.command("retry", short_help="run again what failed")
@id_argument
@task_option("--from", "from_task", help="Run TASK and everything below it again.")
@task_option("--only", "only_task", help="Run TASK again and nothing else.")
@engine_options
@target_options
@output_options
@click.pass_context
def retry_command(
    context: click.Context, /, prefix: str, from_task: str | None, only_task: str | None, **options: Any
) -> int:
    """Run again what failed, keeping every success.

    On a server it runs there; `--follow` watches it. A run of this machine runs in this process until it rests.

    \b
    taskengine instance retry 0192f3c1
    taskengine instance retry 0192f3c1 --from load --app jobs.py
    """
    if from_task is not None and only_task is not None:
        raise click.UsageError("--from and --only exclude each other", context)
    from taskengine.cli.verbs import changing

    return changing.retry(context.obj, prefix, from_task, only_task, **options)


@click.command("fork", short_help="start a new instance from the middle of an ended one")
@id_argument
@task_option("--from", "from_task", help="Run TASK and everything below it; what is above is taken over.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Over those of the instance.")
@click.option("--version", metavar="HASH", help="A version of its workflow, or `latest`; default: its own.")
@click.option("--follow", "logs", is_flag=True, help="Wait for the end and show progress and logs.")
@click.option("--idempotency-key", "key", metavar="KEY", help="The same key again gives the same instance.")
@target_options
@output_options
@click.pass_context
def fork_command(context: click.Context, /, prefix: str, from_task: str | None, **options: Any) -> int:
    """Start a new instance that takes over what an ended one has done, and runs TASK and everything below it.

    So a definition is mended, and the work goes on where it failed: upload the mended file, then fork with
    `--version latest`. The tasks that are taken over must be the same in both versions.

    \b
    taskengine instance fork 0192f3c1 --from load --version latest
    taskengine instance fork 0192f3c1 --from load -p limit=100 --follow
    """
    if from_task is None:
        raise click.UsageError("from which task? `--from TASK`; `instance status ID` lists them", context)
    from taskengine.cli.verbs import forking

    return forking.fork(context.obj, prefix, from_task, **options)


@click.command("signal", short_help="send something to a task that waits for it")
@id_argument
@click.argument("name", metavar="NAME")
@click.option("--payload", metavar="JSON", default="null", help="What is sent; the task's result.")
@engine_options
@target_options
@output_options
@click.pass_context
def signal_command(context: click.Context, /, prefix: str, name: str, payload: str, **options: Any) -> int:
    """Send a signal to a task that waits for it; without one that does, it is kept for the next.

    \b
    taskengine instance signal 0192f3c1 ready --payload '{"rows": 12}'
    """
    from taskengine.cli.verbs import changing

    return changing.signal(context.obj, prefix, name, _json(context, payload), **options)


def _decision_options(command: _Command) -> _Command:
    """`prefix`, `name`, `comment`, `engine`, `where` and `output`."""
    options = (
        id_argument,
        click.argument("name", metavar="TASK"),
        click.option("--comment", metavar="TEXT", default="", help="Is kept with the task."),
        engine_options,
        target_options,
        output_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


def _decide(context: click.Context, prefix: str, name: str, comment: str, *, approved: bool, **options: Any) -> int:
    from taskengine.cli.verbs import changing

    return changing.signal(context.obj, prefix, name, {"approved": approved, "comment": comment}, **options)


@click.command("approve", short_help="say yes to a task that waits for an approval")
@_decision_options
@click.pass_context
def approve_command(context: click.Context, /, **options: Any) -> int:
    """Say yes to a task that waits for an approval. Who did is kept with it.

    \b
    taskengine instance approve 0192f3c1 upload --comment checked
    """
    return _decide(context, approved=True, **options)


@click.command("reject", short_help="say no to a task that waits for an approval")
@_decision_options
@click.pass_context
def reject_command(context: click.Context, /, **options: Any) -> int:
    """Say no to a task that waits for an approval: it fails.

    \b
    taskengine instance reject 0192f3c1 upload --comment "wrong day"
    """
    return _decide(context, approved=False, **options)


def _json(context: click.Context, text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(
            f"--payload is no JSON: {error}; a text needs its own quotes: '\"text\"'", context
        ) from None
