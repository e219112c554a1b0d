"""A durable wait for somebody outside, which holds no slot."""

from typing import Any

from taskengine.errors import BadArguments
from taskengine.functions.outcomes import Awaited
from taskengine.model.durations import parse_duration

__all__ = ["wait_for"]


async def wait_for(
    signal: str = "",
    timeout: float | str | None = None,
    on_timeout: str = "fail",
    approval: bool = False,
    schema: dict[str, Any] | None = None,
) -> Awaited:
    """Waits for the signal of that name (default: the task's), or for an approval; survives restarts.

    The result is the signal's payload; of an approval `{approved, by, comment}`; null after a timeout that continues.
    """
    try:
        return Awaited(signal, None if timeout is None else parse_duration(timeout))
    except ValueError as error:
        raise BadArguments(f"argument 'timeout': {error}") from None
