"""`taskengine workflow`: definitions, stored and in files."""

from collections.abc import Sequence
from typing import Any, Final

import click

from taskengine.cli.completing import complete
from taskengine.cli.options import Span, app_option, target_options, workflow_argument
from taskengine.cli.output import list_options, output_options
from taskengine.cli.tree import LazyGroup

__all__ = [
    "command",
    "delete_command",
    "execute_command",
    "export_command",
    "graph_command",
    "list_command",
    "show_command",
    "upload_command",
    "versions_command",
]

FORMS: Final = ("mermaid", "dot", "ascii", "json", "svg")


@click.command("upload", short_help="store workflow files")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@app_option
@target_options
@output_options
@click.pass_context
def upload_command(context: click.Context, /, files: Sequence[str], **options: Any) -> int:
    """Store workflow files; the same content again changes nothing. `-` reads stdin. The jobs that they name must be
    known: to the server, or with --db here, where --app adds those of a file.

    \b
    taskengine workflow upload workflow.yaml
    taskengine workflow upload *.yaml --json
    """
    from taskengine.cli.verbs import workflows

    return workflows.upload(context.obj, files, **options)


@click.command("list", short_help="list the stored workflows")
@target_options
@list_options
@click.pass_context
def list_command(context: click.Context, /, **options: Any) -> None:
    """List the stored workflows in their current versions.

    \b
    taskengine workflow list -o id
    """
    from taskengine.cli.verbs import workflows

    workflows.list_workflows(context.obj, **options)


@click.command("show", short_help="show a workflow with its params and tasks")
@workflow_argument
@target_options
@list_options
@click.pass_context
def show_command(context: click.Context, /, workflow_id: str, **options: Any) -> None:
    """Show a workflow with its params and tasks.

    \b
    taskengine workflow show daily-sync
    """
    from taskengine.cli.verbs import workflows

    workflows.show_workflow(context.obj, workflow_id, **options)


@click.command("versions", short_help="list the versions of a workflow")
@workflow_argument
@target_options
@list_options
@click.pass_context
def versions_command(context: click.Context, /, workflow_id: str, **options: Any) -> None:
    """List the versions of a workflow, the newest first.

    \b
    taskengine workflow versions daily-sync
    """
    from taskengine.cli.verbs import workflows

    workflows.list_versions(context.obj, workflow_id, **options)


@click.command("delete", short_help="delete a workflow")
@workflow_argument
@click.option("--force", is_flag=True, help="Although instances of it have not ended; they go on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@target_options
@output_options
@click.pass_context
def delete_command(context: click.Context, /, workflow_id: str, **options: Any) -> int:
    """Delete a workflow. Its instances and their history stay.

    \b
    taskengine workflow delete daily-sync --yes
    """
    from taskengine.cli.verbs import workflows

    return workflows.delete(context.obj, workflow_id, **options)


@click.command("execute", short_help="start an instance on a server")
@workflow_argument
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option(
    "--params",
    "params_file",
    metavar="FILE",
    default="",
    type=click.Path(),
    help="Parameters from a JSON or YAML file, `-` for stdin; -p is stronger.",
)
@click.option("--wait", is_flag=True, help="Wait for the end, silently.")
@click.option("--follow", "logs", is_flag=True, help="Wait for the end and show progress and logs.")
@click.option("--timeout", "timeout_s", type=Span(), metavar="SPAN", help="Give up waiting after so long; exit code 8.")
@click.option("--idempotency-key", "key", metavar="KEY", help="The same key again gives the same instance.")
@target_options
@output_options
@click.pass_context
def execute_command(context: click.Context, /, workflow_id: str, **options: Any) -> int:
    """Start an instance of a stored workflow.

    \b
    taskengine workflow execute daily-sync -p date=20260731
    taskengine workflow execute daily-sync --wait --timeout 10m > result.json
    taskengine workflow execute daily-sync --follow

    Prints the id of the instance. With --wait or --follow the results of the tasks on which nothing depends, as `run`
    does, and the exit code tells how it ended.
    """
    if options["wait"] and options["logs"]:
        raise click.UsageError("--wait and --follow exclude each other: the one is silent, the other is not", context)
    if options["timeout_s"] is not None and not (options["wait"] or options["logs"]):
        raise click.UsageError("--timeout is for --wait or --follow; without them nothing is waited for", context)
    from taskengine.cli.verbs import executing

    return executing.execute(context.obj, workflow_id, **options)


@click.command("export", short_help="print a workflow as YAML")
@click.argument("place", metavar="WORKFLOW_ID|FILE", shell_complete=complete("workflows", or_file=True))
@target_options
@click.pass_context
def export_command(context: click.Context, /, place: str, **options: Any) -> None:
    """Print a stored workflow, or a file in any form, as YAML. `-` reads stdin.

    \b
    taskengine workflow export daily-sync > daily-sync.yaml
    """
    from taskengine.cli.verbs import workflows

    workflows.export(context.obj, place, **options)


@click.command("graph", short_help="print the graph of a workflow")
@click.argument("place", metavar="WORKFLOW_ID|FILE", shell_complete=complete("workflows", or_file=True))
@app_option
@click.option("--format", "form", type=click.Choice(FORMS), default="mermaid", show_default=True, help="The form.")
@target_options
@click.pass_context
def graph_command(context: click.Context, /, place: str, **options: Any) -> None:
    """Print the graph of a stored workflow, or of a file. `-` reads stdin.

    \b
    taskengine workflow graph workflow.yaml --format ascii
    taskengine workflow graph daily-sync --format svg > graph.svg
    """
    from taskengine.cli.verbs import drawing

    drawing.draw_graph(context.obj, place, **options)


command = LazyGroup(
    {
        "upload": "workflow:upload_command",
        "list": "workflow:list_command",
        "show": "workflow:show_command",
        "execute": "workflow:execute_command",
        "delete": "workflow:delete_command",
        "validate": "validate:command",
        "export": "workflow:export_command",
        "graph": "workflow:graph_command",
        "versions": "workflow:versions_command",
        "history": "looks:history_command",
    },
    name="workflow",
    help="Definitions: store them, look at them, start them.",
    short_help="store definitions, look at them, start them",
)
