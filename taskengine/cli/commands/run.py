"""`taskengine run FILE`: its options. What it does is in `taskengine.cli.verbs.running`, imported when it is done."""

from collections.abc import Sequence
from typing import Any

import click

from taskengine.cli.completing import complete
from taskengine.cli.options import db_option, engine_options
from taskengine.cli.output import output_options

__all__ = ["command"]


@click.command("run", short_help="run a workflow file to its end")
@click.argument("file", required=False, type=click.Path())
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option(
    "--with",
    "also",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="A workflow that FILE runs as a step; may be repeated.",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[ID]",
    shell_complete=complete("instances"),
    help="Go on with a run that was cut short; without ID the newest one.",
)
@engine_options
@db_option
@output_options
@click.pass_context
def command(
    context: click.Context,
    /,
    file: str | None,
    params: Sequence[str],
    also: Sequence[str],
    resume: str | None,
    **options: Any,
) -> int:
    """Run a workflow file to its end. `-` reads stdin.

    \b
    taskengine run workflow.yaml -p date=20260731 --app jobs.py
    taskengine run workflow.yaml --json > run.json
    taskengine run --resume

    Progress goes to stderr. The results of the tasks on which nothing depends go to stdout, as a JSON object by
    task name; `-o` prints the instance with all its tasks instead. Ctrl-C saves the work, `--resume` goes on with it.
    """
    _refuse_contradictions(context, file, resume, params, also)
    from taskengine.cli.verbs import running

    if file is None:
        return running.resume(context.obj, resume or running.NEWEST, **options)
    return running.run(context.obj, file, params, also, **options)


def _refuse_contradictions(
    context: click.Context, file: str | None, resume: str | None, params: Sequence[str], also: Sequence[str]
) -> None:
    if file is None and resume is None:
        raise click.UsageError("which file? `taskengine run FILE`, or `taskengine run --resume`", context)
    if file is not None and resume is not None:
        raise click.UsageError("--resume goes on with an earlier run and takes no FILE", context)
    if resume is not None and params:
        raise click.UsageError("--resume keeps the params the run was started with; -p cannot change them", context)
    if resume is not None and also:
        raise click.UsageError(
            "--resume goes on with the workflows the run was started with; --with adds none", context
        )
