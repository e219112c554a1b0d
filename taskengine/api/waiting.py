"""`?wait=10s`: an answer that is held back until the instance has ended, for a while."""

from typing import Annotated, Final

from litestar.params import QueryParameter

from taskengine.engine.engine import Engine
from taskengine.engine.views import InstanceView
from taskengine.errors import InvalidInput, WaitTimeout
from taskengine.model.durations import parse_duration

__all__ = ["MAX_WAIT_S", "Wait", "wait_for_end", "wait_seconds"]

MAX_WAIT_S: Final = 60.0

Wait = Annotated[
    str | None,
    QueryParameter(
        name="wait",
        max_length=40,
        description="A duration such as `10s`, at most 60s: answer when the instance has ended, or after that time.",
    ),
]


def wait_seconds(wait: str | None) -> float:
    """0 without one. Raises InvalidInput."""
    if wait is None:
        return 0.0
    try:
        seconds = parse_duration(wait) / 1_000_000
    except ValueError as error:
        raise InvalidInput(f"wait: {error}") from None
    if seconds > MAX_WAIT_S:
        raise InvalidInput(f"wait: at most {MAX_WAIT_S:g}s, got {wait}; ask again for more")
    return seconds


async def wait_for_end(engine: Engine, instance_id: str, seconds: float) -> InstanceView:
    """The instance at its end, or as it is when the time is over. Raises NotFound, Unavailable."""
    if seconds <= 0:
        return await engine.get_instance(instance_id)
    try:
        return await engine.wait_for_instance(instance_id, timeout_s=seconds)
    except WaitTimeout:
        return await engine.get_instance(instance_id)
