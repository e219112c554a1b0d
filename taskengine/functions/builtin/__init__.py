"""Built-in jobs, one per module."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from taskengine.functions.builtin.fail import fail
from taskengine.functions.builtin.http_request import http_request
from taskengine.functions.builtin.log import log
from taskengine.functions.builtin.noop import noop
from taskengine.functions.builtin.shell_command import shell_command
from taskengine.functions.builtin.sleep import sleep
from taskengine.functions.builtin.transform import transform
from taskengine.functions.builtin.wait_for import wait_for
from taskengine.functions.builtin.workflow import workflow

__all__ = [
    "BUILTINS",
    "fail",
    "http_request",
    "log",
    "noop",
    "shell_command",
    "sleep",
    "transform",
    "wait_for",
    "workflow",
]

BUILTINS: Final[Mapping[str, Callable[..., Any]]] = {
    "fail": fail,
    "http_request": http_request,
    "log": log,
    "noop": noop,
    "shell_command": shell_command,
    "sleep": sleep,
    "transform": transform,
    "wait_for": wait_for,
    "workflow": workflow,
}
"""Every built-in job by the name under which definitions ask for it."""
