"""How a stream is kept up: opened, read, opened again where it was cut. Decisions only; a transport performs them."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from taskengine.client import verbs
from taskengine.client.asking import BUSY, Asking
from taskengine.client.calls import Call, Flow, api_path, with_query
from taskengine.client.problems import retry_after
from taskengine.client.resuming import FramePlace, LogPlace, Place
from taskengine.client.steps import Answer, Closed, Emit, Fault, Open, Opened, Pause, Receive, Step
from taskengine.errors import InvalidInput, NotAllowed, ServerUnreachable, TaskEngineError
from taskengine.version import VERSION
from taskengine.wire.frames import StreamFrame
from taskengine.wire.instances import LogLine

__all__ = ["NDJSON", "FrameChannel", "LogChannel", "OnState", "StreamSteps", "follow", "stream_frames", "stream_lines"]

T = TypeVar("T")

OnState = Callable[[Literal["connected", "reconnecting", "closed"], str], object]
"""Hears how the connection is, with a sentence about why. Called between two frames, must not block."""

StreamSteps = Generator[Step | Open | Receive | Emit[T], Any, None]

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
NDJSON: Final = "application/x-ndjson"
NORMAL: Final = 1000
NOT_WANTED: Final = 1008
"""The closing code of a server that sends a client away for good (RFC 6455, policy)."""


class Channel(Generic[T]):
    """One kind of stream of one subject: where it is, what has been passed on, when it is over."""

    websocket: bool
    place: Place[T]

    def __init__(self, path: str, place: Place[T], filters: Mapping[str, object]) -> None:
        self._path, self.place, self._filters = path, place, filters

    def call(self) -> Call[Any]:
        """What to open now."""
        query = with_query(**self._filters, **self.place.query())
        accept = "*/*" if self.websocket else NDJSON
        return Call(method="GET", path=self._path, query=query, decode=bytes, scope="read", accept=accept)

    def is_over(self, end: Closed) -> Flow[bool]:
        """Whether an orderly end is the end of the subject; may ask the server."""
        raise NotImplementedError


class FrameChannel(Channel[StreamFrame]):
    websocket = True

    def is_over(self, end: Closed) -> Flow[bool]:
        yield from ()
        return end.code == NORMAL


class LogChannel(Channel[LogLine]):
    websocket = False

    def __init__(self, instance_id: str, path: str, place: Place[LogLine]) -> None:
        super().__init__(path, place, {})
        self._instance_id = instance_id

    def is_over(self, end: Closed) -> Flow[bool]:
        # A server that stops may end the lines in good order too.
        body = yield from verbs.instance(self._instance_id)
        return verbs.is_final(body.status)


def stream_frames(
    asking: Asking,
    instance_id: str | None,
    workflow_id: str | None,
    *,
    types: Sequence[str],
    status: Sequence[str],
    since: int | str | None,
    keep: bool,
    on_state: OnState | None,
) -> StreamSteps[StreamFrame]:
    """The steps of the narrowest route that serves: one instance, one workflow, everything."""
    if instance_id is not None and workflow_id is not None:
        raise InvalidInput("give instance_id or workflow_id, not both: an instance has one workflow")
    if isinstance(since, int) and instance_id is None:
        raise InvalidInput("a number in `since` counts within one instance; over many, hand in a frame's cursor")
    if keep and instance_id is None:
        raise InvalidInput("keep=True is for one instance; a stream over many does not end with one of them")
    filters = {"types": ",".join(types), "status": ",".join(status), "keep": keep}
    if instance_id is not None:
        path = api_path("ws", "instances", instance_id)
    elif workflow_id is not None:
        path = api_path("ws", "workflows", workflow_id)
    else:
        path = api_path("ws", "events")
    return follow(FrameChannel(path, FramePlace(since, instance_id), filters), asking, on_state)


def stream_lines(
    asking: Asking, instance_id: str, *, task: str | None, since: int, tail: int | None, on_state: OnState | None
) -> StreamSteps[LogLine]:
    """The steps of the lines of one instance as they come.

    With `tail` the stored ones are asked for first: from then on the place is known, whenever the connection is cut.
    """
    if tail is not None:
        if tail < 0:
            raise InvalidInput(f"tail={tail}: it is a number of lines, 0 or more")
        stored = yield from asking.conduct(verbs.logs(instance_id, task=task, since=since, tail=tail or 1))
        since = stored[-1].id if stored else since
        for line in stored if tail else ():
            yield Emit(line)
    path = api_path("instances", instance_id, "logs")
    yield from follow(LogChannel(instance_id, path, LogPlace(since, task)), asking, on_state)


def follow(channel: Channel[T], asking: Asking, on_state: OnState | None = None) -> StreamSteps[T]:
    """The steps of a stream from its opening to its end.

    The first connection has the patience of any request. One that was lost is tried again after half a second, doubling
    to thirty, for `lost_s`. Raises NotFound and NotAllowed when it is refused, ServerUnreachable when patience ends.
    """
    tell = on_state or (lambda state, detail: None)
    trouble = _Trouble(asking)
    while True:
        end = yield from _connection(channel, asking, trouble, tell)
        if isinstance(end, Closed) and (yield from asking.conduct(channel.is_over(end))):
            tell("closed", end.reason or "it has ended")
            return
        try:
            delay_s = trouble.rest_s(end)
        except TaskEngineError as error:
            tell("closed", str(error))
            raise
        if delay_s is None:
            continue
        tell("reconnecting", f"{describe(end)}; next try in {delay_s:.1f} s")
        yield Pause(delay_s)


def describe(end: Closed | Answer | Fault) -> str:
    """Why there is no connection."""
    match end:
        case Closed():
            return f"the server closed the stream ({end.code}{' ' + end.reason if end.reason else ''})"
        case Answer():
            return f"the server is busy (status {end.status})"
        case Fault():
            return end.reason


class _Trouble:
    """What has gone wrong since the last frame, and what to do about it."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._since_s = asking.pace.monotonic()
        self._tries = 0
        self._ever = False
        self._fresh_token = False

    def is_gone(self) -> None:
        """A frame has come."""
        self._tries, self._fresh_token = 0, False

    def is_connected(self) -> None:
        """The server has let us in. Not yet the end of trouble: it may put everybody out again at once."""
        self._ever = True

    def begins(self) -> None:
        """The connection has ended just now, or was never there."""
        if not self._tries:
            self._since_s = self._asking.pace.monotonic()

    def rest_s(self, end: Closed | Answer | Fault) -> float | None:
        """How long to rest; None: try at once, with another token. Raises where trying again is of no use."""
        self._raise_if_refused(end)
        if isinstance(end, Answer) and end.status == 401:
            self._fresh_token = True
            return None
        grown_s = min(FIRST_S * 2.0 ** min(self._tries, 10), LONGEST_S)
        delay_s = max(self._asking.pace.spread(grown_s), (retry_after(end) or 0.0) if isinstance(end, Answer) else 0.0)
        self._tries += 1
        budget_s = self._budget_s(end)
        if budget_s is not None and self._asking.pace.monotonic() - self._since_s + delay_s > budget_s:
            raise self._error(end)
        return delay_s

    def _budget_s(self, end: Closed | Answer | Fault) -> float | None:
        patience = self._asking.patience
        if self._ever:
            return patience.lost_s
        return patience.refused_s if isinstance(end, Fault) and not end.sent else patience.total_s

    def _raise_if_refused(self, end: Closed | Answer | Fault) -> None:
        match end:
            case Closed(code=code) if code == NOT_WANTED:
                raise NotAllowed(f"the server closed the stream: {end.reason or end.code}")
            case Answer(status=401) if not self._fresh_token and self._asking.target.token.refresh():
                return
            case Answer() if end.status not in BUSY:
                raise self._error(end)
            case Fault(hopeless=True):
                raise self._error(end)

    def _error(self, end: Closed | Answer | Fault) -> TaskEngineError:
        if isinstance(end, Closed):
            return ServerUnreachable(self._asking.target.address, describe(end))
        probe: Call[bytes] = Call(method="GET", path="", decode=bytes, scope="read")
        return self._asking.failure(end, probe)


def _connection(
    channel: Channel[T], asking: Asking, trouble: _Trouble, tell: OnState
) -> Generator[Step | Open | Receive | Emit[T], Any, Closed | Answer | Fault]:
    """One connection from its opening to its end; gives what ended it."""
    opened = yield Open(asking.request(channel.call()), channel.websocket)
    if not isinstance(opened, Opened):
        trouble.begins()
        refusal: Answer | Fault = opened
        return refusal
    tell("connected", asking.target.address)
    channel.place.reopened()
    trouble.is_connected()
    while True:
        message = yield Receive()
        if not isinstance(message, bytes):
            trouble.begins()
            end: Closed | Fault = message
            return end
        try:
            item = channel.place.take(message)
        except msgspec.DecodeError as error:
            raise ServerUnreachable(
                asking.target.address,
                f"the stream says what this client ({VERSION}) does not know ({error}); use the server's release",
            ) from None
        trouble.is_gone()
        if item is not None:
            yield Emit(item)
