"""Reading definitions that the command line names: a path, or `-` for stdin."""

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from taskengine.definition import MAX_BYTES, read_json, read_yaml
from taskengine.errors import InvalidInput
from taskengine.model.children import children_of
from taskengine.model.definition import WorkflowDefinition

__all__ = [
    "STDIN",
    "is_file",
    "known_jobs",
    "load_definition",
    "read_content",
    "read_source",
    "require_steps",
    "shown_name",
]

STDIN: Final = "-"
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


def is_file(place: str) -> bool:
    """Whether a file is meant, where the id of a workflow may stand, too. What looks like a path is none of those."""
    return place == STDIN or os.sep in place or Path(place).suffix.lower() in _SUFFIXES or os.path.isfile(place)


def read_source(path: str) -> tuple[bytes, str]:
    """What the file says, and the name that positions are told with. Raises OSError."""
    if path == STDIN:
        return sys.stdin.buffer.read(), "<stdin>"
    name = os.path.normpath(path)
    with open(name, "rb") as stream:
        return stream.read(MAX_BYTES + 1), shown_name(name)


def shown_name(path: str) -> str:
    """A name for reports: bytes of it that are no text are spelled out, since JSON cannot have them."""
    return path.encode(errors="backslashreplace").decode()


def read_content(
    content: bytes, name: str, jobs: Collection[str] | None, pools: Collection[str] | None = None
) -> WorkflowDefinition:
    """The checked definition; JSON if the name says so. Raises InvalidDefinition with every problem."""
    read = read_json if name.lower().endswith(".json") else read_yaml
    return read(content, file=name, jobs=jobs, pools=pools)


def load_definition(
    path: str, jobs: Collection[str] | None, pools: Collection[str] | None = None
) -> WorkflowDefinition:
    """The checked definition of a file, or of stdin. Raises InvalidDefinition, OSError."""
    return read_content(*read_source(path), jobs, pools)


def require_steps(definitions: Sequence[WorkflowDefinition]) -> None:
    """Each workflow that one of them runs as a step is among them, and each only once. Raises InvalidInput."""
    ids = [definition.id for definition in definitions]
    for definition in definitions:
        if ids.count(definition.id) > 1:
            raise InvalidInput(f"two of the files are the workflow {definition.id!r}; leave one of them out")
        for wanted, task in children_of(definition).items():
            if wanted not in ids:
                raise InvalidInput(
                    f"task {task!r} of {definition.id!r} runs the workflow {wanted!r}, which this run does not have; "
                    "add its file: `--with FILE`"
                )


def known_jobs(apps: Sequence[str]) -> Collection[str]:
    """The names of the jobs that a run with these `--app` files would know. Raises InvalidConfiguration."""
    from taskengine.engine.builder import EngineBuilder

    builder = EngineBuilder().with_entry_points()
    for app in apps:
        builder.with_app(app)
    return builder.build().registry.names()
