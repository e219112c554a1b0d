"""Pages: limits, cursors, and lists cut to them.

A cursor is opaque to callers: base64url of a kind and a place. It belongs to the list and the order that made it.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, TypeVar

from litestar.params import QueryParameter

from taskengine.clock import Micros
from taskengine.engine.views import InstanceView
from taskengine.errors import InvalidInput
from taskengine.model.ids import InstanceId

__all__ = [
    "CursorText",
    "Limit",
    "LongLimit",
    "Offset",
    "Order",
    "after_instance",
    "after_number",
    "instance_cursor",
    "micros_of",
    "number_cursor",
    "page_of",
]

T = TypeVar("T")

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many at most.")]
LongLimit = Annotated[int, QueryParameter(ge=1, le=500, description="How many at most.")]
Offset = Annotated[
    int,
    QueryParameter(ge=0, le=10_000_000, description="How many to pass over; a cursor is better."),
]
CursorText = Annotated[
    str | None,
    QueryParameter(name="cursor", max_length=300, description="The `cursor` of the page before: what comes behind it."),
]
Order = Annotated[Literal["asc", "desc"], QueryParameter(description="By creation: the oldest or the newest first.")]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LARGEST: Final = 2**63


def micros_of(at: datetime) -> Micros:
    """Microseconds since 1970 of an aware time."""
    return Micros((at - _EPOCH) // _MICROSECOND)


def instance_cursor(view: InstanceView, order: str) -> str:
    """The place behind this instance, in this order."""
    return _pack(order, f"{micros_of(view.created_at)}.{view.id}")


def after_instance(cursor: str | None, order: str) -> tuple[Micros, InstanceId] | None:
    """The place that a cursor names. Raises InvalidInput for one of another list or order."""
    if cursor is None:
        return None
    kind, place = _unpack(cursor)
    created, _, instance_id = place.partition(".")
    if kind in ("asc", "desc") and kind != order:
        raise InvalidInput(f"this cursor belongs to order={kind}; ask with the same order, or without the cursor")
    if kind != order or not instance_id:
        raise _strange(cursor)
    return Micros(_number(created, cursor)), InstanceId(instance_id)


def number_cursor(kind: str, number: int) -> str:
    """The place behind a row that is known by its number."""
    return _pack(kind, str(number))


def after_number(cursor: str | None, kind: str, default: int) -> int:
    """The number that a cursor names. Raises InvalidInput for a cursor of another list."""
    if cursor is None:
        return default
    found, place = _unpack(cursor)
    if found != kind:
        raise _strange(cursor)
    return _number(place, cursor)


def page_of(items: Sequence[T], limit: int) -> tuple[list[T], bool]:
    """The first `limit`, and whether there were more."""
    return list(items[:limit]), len(items) > limit


def _pack(kind: str, place: str) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{place}".encode()).decode().rstrip("=")


def _unpack(cursor: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _strange(cursor) from None
    kind, _, place = text.partition(":")
    return kind, place


def _number(text: str, cursor: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < _LARGEST):
        raise _strange(cursor)
    return int(text)


def _strange(cursor: str) -> InvalidInput:
    return InvalidInput(f"cursor {cursor[:40]!r} is none of this list; hand back what the page before said, unchanged")
