"""What `taskengine workflow` does, but for starting and drawing."""

from collections.abc import Sequence
from typing import Final, TextIO

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.listing import show_table
from taskengine.cli.local.definitions import STDIN, is_file, load_definition, read_source
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.problems import exit_code_of, explain, say
from taskengine.cli.safe import clean, clean_lines
from taskengine.cli.targets.choosing import choose
from taskengine.cli.targets.interface import Target
from taskengine.cli.verbs.confirming import confirm
from taskengine.cli.verbs.instances import time_text
from taskengine.errors import InvalidDefinition, InvalidInput
from taskengine.wire import ParamBody, UploadReply, WorkflowDetail

__all__ = ["delete", "export", "list_versions", "list_workflows", "show_workflow", "upload"]

_HEADS: Final = ("ID", "NAME", "TASKS", "VERSION", "CREATED (UTC)")
_VERSION_HEADS: Final = ("VERSION", "CREATED (UTC)", "CURRENT")
_TASK_HEADS: Final = ("TASK", "JOB", "DEPENDS ON")
_PARAM_HEADS: Final = ("PARAM", "TYPE", "DEFAULT", "DESCRIPTION")


def upload(ambient: Ambient | None, files: Sequence[str], *, apps: Sequence[str], where: Where, output: Output) -> int:
    """Each file by itself: one that is wrong does not hold the others up. The exit code."""
    if files.count(STDIN) > 1:
        raise InvalidInput("stdin can be read once; give `-` once")
    replies: list[UploadReply] = []
    codes = [exits.OK]
    with choose(where, ambient) as target:
        for file in files:
            content, name = read_source(file)
            try:
                replies.append(target.upload(content, name, apps))
            except InvalidDefinition as error:
                say(explain(_placed(error, name)))
                if any(problem.path.endswith(".job") for problem in error.problems):
                    output.hint(f"Unknown jobs: {target.more_jobs}")
                codes.append(exit_code_of(error))
    write_data(replies, output.form or Format.TABLE, table=lambda stream: _say_uploaded(replies, stream))
    return max(codes)


def _placed(error: InvalidDefinition, name: str) -> InvalidDefinition:
    """A server knows the lines, but not the name of the file."""
    import msgspec

    return InvalidDefinition([msgspec.structs.replace(each, file=name) for each in error.problems])


def _say_uploaded(replies: Sequence[UploadReply], stream: TextIO) -> None:
    for reply in replies:
        done = "created" if reply.created else "new version" if reply.changed else "unchanged"
        write_text(clean(f"{reply.id}  {reply.version[:7]}  {done}"), stream)


def list_workflows(ambient: Ambient | None, *, where: Where, output: Output) -> None:
    with choose(where, ambient) as target:
        found = target.workflows()
        flags = target.flags
    form = output.form or Format.TABLE
    if form is Format.TABLE and not found:
        output.hint(f"There are no workflows. Upload one:  taskengine workflow upload FILE{flags}")
        return
    rows = [[each.id, each.name, str(each.task_count), each.version[:7], time_text(each.created_at)] for each in found]
    write_data(found, form, table=lambda stream: show_table(_HEADS, rows, stream, headers=output.headers))


def show_workflow(ambient: Ambient | None, workflow_id: str, *, where: Where, output: Output) -> None:
    with choose(where, ambient) as target:
        found = target.workflow(workflow_id)
    write_data(found, output.form or Format.TABLE, table=lambda stream: _show(found, output, stream))


def list_versions(ambient: Ambient | None, workflow_id: str, *, where: Where, output: Output) -> None:
    """The newest first."""
    with choose(where, ambient) as target:
        found = target.versions(workflow_id)
    rows = [[each.version[:12], time_text(each.created_at), "yes" if each.current else ""] for each in found]
    write_data(
        found,
        output.form or Format.TABLE,
        table=lambda stream: show_table(_VERSION_HEADS, rows, stream, headers=output.headers),
        key="version",
    )


def delete(ambient: Ambient | None, workflow_id: str, *, force: bool, yes: bool, where: Where, output: Output) -> int:
    with choose(where, ambient) as target:
        target.versions(workflow_id)  # an unknown one needs no question
        if not confirm(_question(target, workflow_id, force), yes=yes):
            return exits.ERROR
        target.delete_workflow(workflow_id, force=force)
    output.hint(f"Deleted workflow {workflow_id}. Its instances and their history stay.")
    return exits.OK


def _question(target: Target, workflow_id: str, force: bool) -> str:
    running = ", although instances of it may be running," if force else ""
    return f"Delete workflow {workflow_id}{running} from {target.place}?"


def export(ambient: Ambient | None, place: str, *, where: Where) -> None:
    """A file in its canonical form, or a stored workflow, as YAML."""
    if is_file(place):
        from taskengine.definition import to_yaml

        text = to_yaml(load_definition(place, None))
    else:
        with choose(where, ambient) as target:
            text = target.export(place)
    write_text(clean_lines(text).rstrip("\n"))


def _show(found: WorkflowDetail, output: Output, stream: TextIO) -> None:
    title = "" if found.name == found.id else f"   {clean(found.name)}"
    write_text(f"Workflow  {clean(found.id)} (v {found.version[:7]}){title}", stream)
    if found.description:
        write_text(clean_lines(found.description.rstrip()), stream)
    if found.labels:
        write_text("Labels    " + clean(", ".join(f"{name}={value}" for name, value in found.labels.items())), stream)
    if found.params:
        write_text("", stream)
        show_table(_PARAM_HEADS, [_param_row(param) for param in found.params], stream, headers=output.headers)
    write_text("", stream)
    before: dict[str, list[str]] = {}
    for edge in found.graph.edges:
        before.setdefault(edge.after, []).append(edge.before)
    rows = [[node.name, node.job, ", ".join(before.get(node.name, ()))] for node in found.graph.nodes]
    show_table(_TASK_HEADS, rows, stream, headers=output.headers)


def _param_row(param: ParamBody) -> list[str]:
    from taskengine.cli.output import json_text

    default = json_text(param.default) if param.has_default else "required" if param.required else ""
    return [param.name, param.type, default, param.description]
