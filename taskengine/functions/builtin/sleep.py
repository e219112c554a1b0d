"""A durable wait that holds no slot."""

from taskengine.errors import BadArguments
from taskengine.functions.outcomes import Sleep
from taskengine.model.durations import parse_duration

__all__ = ["sleep"]


async def sleep(duration: float | str) -> Sleep:
    """Waits for `duration` (`90s`, `1h30m`, or seconds); survives restarts. The result is `{slept: seconds}`."""
    try:
        return Sleep(parse_duration(duration))
    except ValueError as error:
        raise BadArguments(f"argument 'duration': {error}") from None
