"""How the end of a body, in whatever place it ran, becomes an outcome."""

import asyncio
from typing import Final

from taskengine.functions.failures import failure_of
from taskengine.functions.outcomes import Awaited, Child, Parked, Raised, Returned, Sleep
from taskengine.functions.results import encode_result
from taskengine.model.records import TaskFailure

__all__ = ["NEVER_STARTED", "interrupted", "outcome_of", "raised"]

_LONGEST_CHAIN: Final = 100


def outcome_of(value: object, nan: str, limit: int) -> Returned | Parked:
    """What a body that returned came to. Raises BadResult."""
    if isinstance(value, Sleep):
        slept = encode_result({"slept": value.span_us / 1_000_000})
        return Parked(value.span_us, slept)
    if isinstance(value, Awaited):
        return Parked(value.span_us, b"null", value.signal)
    if isinstance(value, Child):
        request = encode_result({"workflow": value.workflow, "params": value.params}, nan=nan, limit=limit)
        return Parked(None, request, child=True)
    return Returned(encode_result(value, nan=nan, limit=limit))


def raised(error: BaseException, cancelled: bool) -> Raised:
    """What a body that raised came to. `cancelled`: it had been asked to end."""
    return Raised(failure_of(error), interrupted=cancelled and _stems_from_cancel(error))


def interrupted(message: str) -> Raised:
    """The end of a body that we ended without an exception of its own."""
    return Raised(TaskFailure(type="CancelledError", message=message), interrupted=True)


NEVER_STARTED: Final = interrupted("asked to end before the body began")


def _stems_from_cancel(error: BaseException) -> bool:
    """Clean-up code may raise something else on top of the CancelledError; that is still our doing."""
    waiting: list[BaseException | None] = [error]
    for _ in range(_LONGEST_CHAIN):
        link = waiting.pop() if waiting else None
        if link is None and not waiting:
            return False
        if isinstance(link, asyncio.CancelledError):
            return True
        if link is not None:
            waiting += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions
    return False
