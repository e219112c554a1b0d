"""Fails on purpose."""

from taskengine.errors import JobError, NonRetryable

__all__ = ["fail"]


async def fail(message: str = "failed on purpose", retryable: bool = True) -> None:
    """Fails the attempt with `message`; with `retryable: false` there is no further attempt."""
    raise JobError(message) if retryable else NonRetryable(message)
