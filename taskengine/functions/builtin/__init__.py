"""Built-in jobs, one per module."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from taskengine.functions.builtin.fail import fail
from taskengine.functions.builtin.log import log
from taskengine.functions.builtin.noop import noop
from taskengine.functions.builtin.sleep import sleep
from taskengine.functions.builtin.transform import transform

__all__ = ["BUILTINS", "fail", "log", "noop", "sleep", "transform"]

BUILTINS: Final[Mapping[str, Callable[..., Any]]] = {
    "fail": fail,
    "log": log,
    "noop": noop,
    "sleep": sleep,
    "transform": transform,
}
"""Every built-in job by the name under which definitions ask for it."""
