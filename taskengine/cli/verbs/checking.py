"""What `taskengine validate` does: every problem of every file, at once."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from taskengine.cli import exits
from taskengine.cli.local.definitions import known_jobs, load_definition, shown_name
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.problems import exit_code_of, explain, say
from taskengine.cli.safe import clean
from taskengine.errors import InvalidDefinition, TaskEngineError
from taskengine.model.definition import canonical_form, version_of

__all__ = ["validate"]

_Report = dict[str, Any]


def validate(files: Sequence[str], *, apps: Sequence[str], output: Output) -> int:
    """A report on each file to stdout; as text the problems go to stderr. The exit code."""
    jobs = known_jobs(apps)
    reports, codes = [], []
    for file in files:
        report, code = _check(file, jobs, quiet=output.form not in (None, Format.TABLE))
        reports.append(report)
        codes.append(code)
    write_data(
        reports, output.form or Format.TABLE, table=lambda stream: write_text("\n".join(map(_line, reports)), stream)
    )
    return exits.INVALID_DEFINITION if exits.INVALID_DEFINITION in codes else max(codes)


def _check(file: str, jobs: Collection[str], *, quiet: bool) -> tuple[_Report, int]:
    """The report on one file and the exit code for it; `id` is null where the file could not be read."""
    unread = {"valid": False, "id": None, "name": None, "version": None, "tasks": 0}
    report: _Report = {"file": shown_name(file), **unread}
    try:
        definition = load_definition(file, jobs)
    except (TaskEngineError, OSError) as error:
        if not (quiet and isinstance(error, InvalidDefinition)):  # a report has no place for why it was not read
            say(explain(error))
        problems = error.problems if isinstance(error, InvalidDefinition) else ()
        found = [msgspec.to_builtins(problem) for problem in problems]
        return {**report, "problems": found}, exit_code_of(error)
    report |= {
        "valid": True,
        "id": definition.id,
        "name": definition.title,
        "version": version_of(canonical_form(definition)),
        "tasks": len(definition.tasks),
    }
    return {**report, "problems": []}, exits.OK


def _line(report: _Report) -> str:
    if not report["valid"]:
        return clean(f"{report['file']}: {'invalid' if report['problems'] else 'cannot be read'}")
    tasks = f"{report['tasks']} task{'s' if report['tasks'] != 1 else ''}"
    return clean(f"{report['file']}: valid, {report['id']} (v {report['version'][:7]}), {tasks}")
