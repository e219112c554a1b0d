"""An exception of a body as data: what the store keeps and the retry policy reads."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskengine.clock import Micros, seconds
from taskengine.errors import BadArguments, InvalidInput, NonRetryable, RetryAfter, UnknownFunction
from taskengine.model.records import TaskFailure

__all__ = ["MAX_MESSAGE", "MAX_TRACEBACK", "cut", "failure_of"]

MAX_MESSAGE: Final = 10 * 1024
MAX_TRACEBACK: Final = 20 * 1024
"""Both in bytes of UTF-8."""

# The same call again meets the same refusal.
_HOPELESS: Final = (NonRetryable, BadArguments, UnknownFunction, InvalidInput)
_HERE: Final = str(Path(__file__).parent)
_RUNNERS: Final = ("asyncio/runners.py", "asyncio/base_events.py")
_MAX_FRAMES: Final = 50
_MAX_DELAY_S: Final = 100 * 365.25 * 86400.0


def failure_of(error: BaseException) -> TaskFailure:
    """Why an attempt failed. Never raises, whatever the exception's own methods do."""
    family = list(_family(error))
    return TaskFailure(
        type=type(error).__name__,
        message=cut(_message(error), MAX_MESSAGE),
        traceback=cut(_traceback(error), MAX_TRACEBACK),
        bases=_names(family),
        retryable=not any(isinstance(member, _HOPELESS) for member in family),
        retry_after_us=_delay(family),
    )


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8: the start and the end stay, the middle goes. Always encodable."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    note = f"\n[... {len(data) - limit} bytes and more left out ...]\n".encode()
    head = (limit - len(note)) // 2
    tail = limit - len(note) - head
    return data[:head].decode("utf-8", "ignore") + note.decode() + data[-tail:].decode("utf-8", "ignore")


def _family(error: BaseException) -> Iterator[BaseException]:
    """The exception, then the members of a group: `TaskGroup` wraps what its children raise."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _family(member)


def _names(family: list[BaseException]) -> tuple[str, ...]:
    own = type(family[0]).__name__
    names = [kind.__name__ for member in family for kind in type(member).__mro__[:-1]]
    return tuple(dict.fromkeys(name for name in names if name != own))


def _delay(family: list[BaseException]) -> Micros | None:
    delays = [member.delay_s for member in family if isinstance(member, RetryAfter)]
    # min and max also turn NaN into 0.
    return seconds(max(0.0, min(max(delays), _MAX_DELAY_S))) if delays else None


def _message(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except BaseException as second:
        return f"<{type(error).__name__} whose text raised {type(second).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        told = traceback.TracebackException.from_exception(error, limit=-_MAX_FRAMES)
        return _without_ours(told)
    except BaseException:
        return ""


def _without_ours(told: traceback.TracebackException) -> str:
    """The text without our own frames; empty when no frame of the user's is left."""
    chain, waiting = [], [told]
    while waiting:
        link = waiting.pop()
        chain.append(link)
        context = None if link.__suppress_context__ else link.__context__
        waiting.extend(other for other in (link.__cause__, context, *(link.exceptions or ())) if other)
    for link in chain:
        link.stack = traceback.StackSummary.from_list([line for line in link.stack if not _is_ours(line.filename)])
    return "".join(told.format()) if any(link.stack for link in chain) else ""


def _is_ours(filename: str) -> bool:
    return filename.startswith(_HERE) or filename.endswith(_RUNNERS)
