"""The streams' routes: three WebSockets, and one event stream for those who have curl."""

from typing import Annotated, Any, Final

import anyio
import msgspec
from litestar import Request, get
from litestar.connection import WebSocket
from litestar.handlers import websocket
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send

from taskengine.api.describing import also, problems
from taskengine.api.parts import ApiParts, Parts
from taskengine.api.problems import Refusal
from taskengine.api.stream.client import Client, Ending
from taskengine.api.stream.interest import Interest, parse_choice
from taskengine.api.stream.present import Present
from taskengine.api.stream.sinks import AsgiSink, EventSink, WireSink, abort_of, wire_of
from taskengine.api.stream.telling import Beginning, Sink, Telling, parse_since

__all__ = ["ROUTES", "SUBPROTOCOL"]

SUBPROTOCOL: Final = "taskengine.v1"
"""What we speak. Chosen when the client offers it; a client that offers nothing is served as well."""

_MAX_INBOUND: Final = 64 * 1024
_GONE: Final = Ending(1000, "", "left")
_PING: Final = msgspec.json.Decoder(dict[str, Any])


@websocket("/api/v1/ws/instances/{instance_id:str}", opt={"scope": "read"})
async def instance_socket(
    socket: WebSocket[Any, Any, Any],
    parts: Parts,
    instance_id: FromPath[str],
    since: FromQuery[str | None] = None,
    types: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
    keep: FromQuery[bool] = False,
) -> None:
    """One instance: a snapshot with its tasks, or with `since` what came behind that number; then each update."""
    choice = parse_choice(types, status)
    await _serve(socket, parts, Interest(instance_id=instance_id, choice=choice, keep=keep), since)


@websocket("/api/v1/ws/workflows/{workflow_id:str}", opt={"scope": "read"})
async def workflow_socket(
    socket: WebSocket[Any, Any, Any],
    parts: Parts,
    workflow_id: FromPath[str],
    since: FromQuery[str | None] = None,
    types: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
) -> None:
    """All instances of one workflow, also those that are yet to start."""
    await _serve(socket, parts, Interest(workflow_id=workflow_id, choice=parse_choice(types, status)), since)


@websocket("/api/v1/ws/events", opt={"scope": "read"})
async def everything_socket(
    socket: WebSocket[Any, Any, Any],
    parts: Parts,
    since: FromQuery[str | None] = None,
    types: FromQuery[str | None] = None,
    status: FromQuery[str | None] = None,
) -> None:
    """Every instance."""
    await _serve(socket, parts, Interest(choice=parse_choice(types, status)), since)


@get(
    "/api/v1/events",
    opt={"scope": "read", "stream": True},
    media_type="text/event-stream",
    responses=also(204, None, "It was told all: the instance has ended.") | problems(400, 404, 503),
    tags=["streams"],
    summary="Follow events",
)
async def event_stream(
    request: Request[Any, Any, Any],
    parts: Parts,
    instance_id: Annotated[str | None, QueryParameter(description="Of this instance only.")] = None,
    workflow_id: Annotated[str | None, QueryParameter(description="Of this workflow's instances only.")] = None,
    since: Annotated[
        str | None,
        QueryParameter(description="Only what comes behind this number of an instance, or this cursor of a stream."),
    ] = None,
    types: Annotated[
        str | None, QueryParameter(description="Kinds of updates with commas between, such as `task_status,log`.")
    ] = None,
    status: Annotated[
        str | None, QueryParameter(description="Only updates that lead to one of these, such as `Failed,TimedOut`.")
    ] = None,
    keep: Annotated[bool, QueryParameter(description="Go on when the instance has ended: it may be retried.")] = False,
    last_event_id: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="The `id` of the last event that was seen.")
    ] = None,
) -> ASGIApp:
    """The same frames as server-sent events; `Last-Event-ID` is heard, and comes before `since`.

    A stream of one instance ends with it. Who comes back after that gets a 204, which an EventSource takes for the end.
    """
    interest = Interest(instance_id=instance_id, workflow_id=workflow_id, choice=parse_choice(types, status), keep=keep)
    beginning = await _beginning(parts, interest, last_event_id or since)
    if last_event_id and interest.is_one and await _has_told_all(parts, interest, beginning):
        return _no_content
    return _EventStream(parts, interest, beginning)


async def _has_told_all(parts: ApiParts, interest: Interest, beginning: Beginning) -> bool:
    """Whether this client has the last update of an instance that has ended."""
    assert interest.instance_id is not None
    present = Present(parts.engine, parts.clock)
    if interest.keep or not await present.ended(interest.instance_id):
        return False
    return beginning.behind == await present.last_number(interest.instance_id)


async def _beginning(parts: ApiParts, interest: Interest, since: str | None) -> Beginning:
    """Raises NotFound for an unknown instance or workflow, InvalidInput for what cannot be read."""
    await Present(parts.engine, parts.clock).require(interest)
    return parse_since(since, parts.hub, one=interest.is_one)


def _join(parts: ApiParts, interest: Interest, beginning: Beginning) -> Client:
    if interest.is_one:
        return parts.hub.join(interest)
    return parts.hub.join(interest, behind=beginning.behind)


def _telling(parts: ApiParts, client: Client, sink: Sink) -> Telling:
    return Telling(parts.hub, client, sink, Present(parts.engine, parts.clock), parts.ambient)


# -- WebSocket -------------------------------------------------------------------------------------------------


async def _serve(socket: WebSocket[Any, Any, Any], parts: ApiParts, interest: Interest, since: str | None) -> None:
    """Refuses before the handshake by raising; afterwards it closes with a code and raises nothing."""
    beginning = await _beginning(parts, interest, since)
    client = _join(parts, interest, beginning)
    try:
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        wire = wire_of(socket.scope)
        sink: Sink = AsgiSink(socket.send) if wire is None else WireSink(wire)
        async with anyio.create_task_group() as both:
            both.start_soon(_listen, socket, client)
            await _telling(parts, client, sink).run(beginning)
            both.cancel_scope.cancel()
    finally:
        parts.hub.leave(client)


async def _listen(socket: WebSocket[Any, Any, Any], client: Client) -> None:
    """A client may ping, nothing else."""
    while True:
        message: Any = await socket.receive()
        if message["type"] == "websocket.disconnect":
            client.end(_GONE, now=True)
            return
        text = message.get("text")
        if len(text or message.get("bytes") or b"") > _MAX_INBOUND:
            client.end(Ending(1009, f"a message may have {_MAX_INBOUND} bytes", "too_long"), now=True)
            return
        if not _is_ping(text):
            client.end(Ending(1008, 'this stream takes {"type": "ping"} and nothing else', "policy"), now=True)
            return
        client.beat()


def _is_ping(text: str | None) -> bool:
    try:
        return text is not None and _PING.decode(text) == {"type": "ping"}
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False


# -- event stream ----------------------------------------------------------------------------------------------


class _EventStream:
    """An answer that goes on until its client leaves or its instance ends."""

    def __init__(self, parts: ApiParts, interest: Interest, beginning: Beginning) -> None:
        self._parts = parts
        self._interest = interest
        self._beginning = beginning

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = _join(self._parts, self._interest, self._beginning)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if scope["method"] == "HEAD":  # type: ignore[typeddict-item]  # an HTTP scope
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            async with anyio.create_task_group() as both:
                both.start_soon(self._listen, receive, client)
                sink = EventSink(send, abort_of(scope))
                await _telling(self._parts, client, sink).run(self._beginning)
                both.cancel_scope.cancel()
        finally:
            self._parts.hub.leave(client)

    async def _listen(self, receive: Receive, client: Client) -> None:
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        except Refusal:  # it left, or has announced a body that does not come
            pass
        client.end(_GONE, now=True)


_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


async def _no_content(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


ROUTES: Final[list[Any]] = [instance_socket, workflow_socket, everything_socket, event_stream]
