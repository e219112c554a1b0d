"""A durable wait that holds no slot."""

from taskengine.errors import BadArguments
from taskengine.functions.durations import span_of
from taskengine.functions.outcomes import Sleep

__all__ = ["sleep"]


async def sleep(duration: float | str) -> Sleep:
    """Waits for `duration` (`90s`, `1h30m`, or seconds); survives restarts. The result is `{slept: seconds}`."""
    try:
        return Sleep(span_of(duration))
    except ValueError as error:
        raise BadArguments(f"argument 'duration': {error}") from None
