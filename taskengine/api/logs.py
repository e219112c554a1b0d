"""What tasks said, over HTTP: a page of stored lines, or all lines as they come until the instance has ended."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Final

import msgspec
from litestar import get
from litestar.params import QueryParameter

from taskengine.api.asking import InstanceIdPath
from taskengine.api.describing import describe_forms, problems
from taskengine.api.following import follow_lines
from taskengine.api.paging import CursorText, LongLimit, after_number, number_cursor
from taskengine.api.parts import Parts
from taskengine.api.replies import Lines, Reply
from taskengine.api.shapes import log_line
from taskengine.engine.engine import Engine
from taskengine.errors import InvalidInput
from taskengine.model.names import composed
from taskengine.wire import Envelope, LogLine, Page

__all__ = ["ROUTES"]

_ENCODER: Final = msgspec.json.Encoder()


@get(
    "/api/v1/instances/{instance_id:str}/logs",
    opt={"scope": "read", "stream": "maybe"},
    operation_class=describe_forms({"application/x-ndjson": "With `follow`: one LogLine a line."}),
    responses=problems(400, 404, 503),
    tags=["instances"],
    summary="Log lines",
)
async def get_logs(
    instance_id: InstanceIdPath,
    parts: Parts,
    task: Annotated[str | None, QueryParameter(max_length=400, description="Only of this task.")] = None,
    since: Annotated[int, QueryParameter(ge=0, le=2**53, description="Only lines with a larger `id`.")] = 0,
    tail: Annotated[
        int | None, QueryParameter(ge=0, le=500, description="Only the last so many, still in ascending order.")
    ] = None,
    limit: LongLimit = 500,
    cursor: CursorText = None,
    follow: Annotated[
        bool, QueryParameter(description="Answer with one JSON object a line (NDJSON), until the instance has ended.")
    ] = False,
) -> Reply[Envelope[Page[LogLine]]]:
    """Stored lines in the order in which they were said. With `follow`, those and all that come.

    A line in a page and a line of `follow` have the same shape. Following ends by itself, with the last line of an
    instance that has ended; `limit` is not for it.
    """
    if cursor is not None and since:
        raise InvalidInput("cursor and since exclude each other")
    name, after = None if task is None else composed(task), after_number(cursor, "log", since)
    if follow:
        await parts.engine.get_instance(instance_id)
        return _followed(parts.engine, instance_id, name, after, tail)
    if tail == 0:
        raise InvalidInput("tail=0 is for follow=true, which then tells new lines only")
    rows = await parts.engine.get_logs(instance_id, task=name, after=after, limit=limit + 1, tail=tail)
    more = tail is None and len(rows) > limit
    shown = rows[:limit] if tail is None else rows
    page = Page(
        items=[log_line(row) for row in shown],
        has_more=more,
        cursor=number_cursor("log", shown[-1].id) if more else None,
    )
    return Reply(Envelope(data=page))


def _followed(engine: Engine, instance_id: str, task: str | None, after: int, tail: int | None) -> Reply[Any]:
    """Another form of the answer than the annotation says."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        async for lines in follow_lines(engine, instance_id, task=task, after=after, tail=tail):
            yield b"".join(_ENCODER.encode(line) + b"\n" for line in lines)

    return Lines(pieces(), "application/x-ndjson")


ROUTES: Final = [get_logs]
