"""Reading definitions that the command line names: a path, or `-` for stdin."""

import os
import sys
from collections.abc import Collection, Sequence
from typing import Final

from taskengine.definition import read_file, read_yaml
from taskengine.model.definition import WorkflowDefinition

__all__ = ["STDIN", "known_jobs", "load_definition"]

STDIN: Final = "-"


def load_definition(path: str, jobs: Collection[str] | None) -> WorkflowDefinition:
    """The checked definition. Raises InvalidDefinition with every problem, OSError."""
    if path == STDIN:
        return read_yaml(sys.stdin.buffer.read(), file="<stdin>", jobs=jobs)
    return read_file(os.path.normpath(path), jobs=jobs)


def known_jobs(apps: Sequence[str]) -> Collection[str]:
    """The names of the jobs that a run with these `--app` files would know. Raises InvalidConfiguration."""
    from taskengine.engine.builder import EngineBuilder

    builder = EngineBuilder().with_entry_points()
    for app in apps:
        builder.with_app(app)
    return builder.build().registry.names()
