"""Tasks that wait for somebody outside: what they wait for, as their params say it."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from taskengine.model.definition import ParamSpec, TaskSpec

__all__ = ["WAIT_JOB", "WAIT_PARAMS", "Approval", "OnTimeout", "Wait", "wait_of"]

WAIT_JOB: Final = "wait_for"
WAIT_PARAMS: Final = ("signal", "timeout", "on_timeout", "approval", "schema")

OnTimeout = Literal["fail", "continue"]


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """What a task waits for.

    signal      its name
    on_timeout  what becomes of the task when nobody came in time
    approval    the payload says yes or no
    schema      what a payload has to be; empty: anything
    """

    signal: str
    on_timeout: OnTimeout = "fail"
    approval: bool = False
    schema: Mapping[str, ParamSpec] = {}


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload for a task that waits for an approval."""

    approved: bool
    comment: str = ""


def wait_of(spec: TaskSpec) -> Wait | None:
    """None for a task that does not wait. The params were checked when the definition was read."""
    if spec.job != WAIT_JOB:
        return None
    params = spec.params
    schema: Mapping[str, Any] = params.get("schema") or {}
    return Wait(
        signal=str(params.get("signal") or spec.name),
        on_timeout="continue" if params.get("on_timeout") == "continue" else "fail",
        approval=params.get("approval") is True,
        schema=msgspec.convert(schema, dict[str, ParamSpec]),
    )
