"""Reading definitions that the command line names: a path, or `-` for stdin."""

import os
import sys
from collections.abc import Collection, Sequence

from taskengine.definition import read_file, read_yaml
from taskengine.functions import Registry, builtin_registry
from taskengine.model.definition import WorkflowDefinition

__all__ = ["STDIN", "load_definition", "registry_with"]

STDIN = "-"


def load_definition(path: str, jobs: Collection[str] | None) -> WorkflowDefinition:
    """The checked definition. Raises InvalidDefinition with every problem, OSError."""
    if path == STDIN:
        return read_yaml(sys.stdin.buffer.read(), file="<stdin>", jobs=jobs)
    return read_file(os.path.normpath(path), jobs=jobs)


def registry_with(apps: Sequence[str]) -> Registry:
    """The jobs that a run with these `--app` files would know. Raises InvalidConfiguration."""
    registry = builtin_registry()
    registry.load_entry_points()
    for app in apps:
        registry.load_file(app)
    return registry
