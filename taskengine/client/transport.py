"""The two transports: one blocks, one does not. They perform steps and decide nothing."""

from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from taskengine.client.asking import Steps
from taskengine.client.faults import fault_of
from taskengine.client.following import NDJSON, StreamSteps
from taskengine.client.lines import LineCutter
from taskengine.client.pace import Pace
from taskengine.client.steps import Answer, Closed, Emit, Fault, Open, Opened, Outcome, Pause, Receive, Request, Send
from taskengine.client.wiring import GOODBYE_S, Wiring, answer_of, end_of, refusal_of

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection as AsyncSocket
    from websockets.sync.client import ClientConnection as SyncSocket

__all__ = ["AsyncTransport", "SyncTransport"]

T = TypeVar("T")

CLOSING_S: Final = 2.0
"""For closing a connection. It has its own patience with the other side, which is much shorter."""


class SyncFeed(Protocol):
    def receive(self) -> bytes | Closed | Fault: ...
    def close(self) -> None: ...


class AsyncFeed(Protocol):
    async def receive(self) -> bytes | Closed | Fault: ...
    async def close(self) -> None: ...


class SyncTransport:
    """Blocks. May be used by several threads."""

    def __init__(self, wiring: Wiring, pace: Pace) -> None:
        self._wiring, self._pace = wiring, pace
        self._http: httpx.Client | None = None
        self._making = Lock()

    def close(self) -> None:
        """Let go of the connections; again is fine, and a later request makes new ones."""
        with self._making:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def run(self, steps: Steps[T]) -> T:
        """Perform all steps; gives their result or raises their error."""
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = self._perform(step)

    def stream(self, steps: StreamSteps[T]) -> Generator[T, None, None]:
        """Perform the steps of a stream, giving out what it emits. Closing it closes the connection."""
        feed: SyncFeed | None = None
        outcome: object = None
        try:
            while True:
                try:
                    step = steps.send(outcome)
                except StopIteration:
                    return
                match step:
                    case Emit():
                        outcome = None
                        yield step.item
                    case Open():
                        feed, outcome = self._open(step)
                    case Receive():
                        assert feed is not None
                        outcome = feed.receive()
                        if not isinstance(outcome, bytes):
                            feed.close()
                            feed = None
                    case _:
                        outcome = self._perform(step)
        finally:
            if feed is not None:
                feed.close()

    def _perform(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
            self._pace.sleep(step.delay_s)
            return None
        return self._send(step.request)

    def _send(self, request: Request) -> Answer | Fault:
        import httpx

        http = self._client()
        try:
            return answer_of(http.send(http.build_request(**self._wiring.request_options(request))))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return fault_of(error)

    def _open(self, step: Open) -> tuple[SyncFeed | None, Opened | Answer | Fault]:
        return self._open_socket(step.request) if step.websocket else self._open_lines(step.request)

    def _open_socket(self, request: Request) -> tuple[SyncFeed | None, Opened | Answer | Fault]:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        # A context manager in every release of websockets; a plain connection only in some.
        held = ExitStack()
        try:
            socket = held.enter_context(connect(**self._wiring.socket_options(request)))
        except (OSError, WebSocketException) as error:
            return None, refusal_of(error)
        return _SyncSocketFeed(socket, held), Opened()

    def _open_lines(self, request: Request) -> tuple[SyncFeed | None, Opened | Answer | Fault]:
        import httpx

        http = self._client()
        try:
            response = http.send(http.build_request(**self._wiring.request_options(request)), stream=True)
            if _is_feed(response):
                return _SyncLineFeed(response), Opened()
            response.read()
            return None, answer_of(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, fault_of(error)

    def _client(self) -> "httpx.Client":
        with self._making:
            if self._http is None:
                import httpx

                self._http = httpx.Client(**self._wiring.client_options())
            return self._http


class AsyncTransport:
    """Does not block. Belongs to the event loop that first uses it."""

    def __init__(self, wiring: Wiring, pace: Pace) -> None:
        self._wiring, self._pace = wiring, pace
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Let go of the connections; again is fine, and a later request makes new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """Perform all steps; gives their result or raises their error."""
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                result: T = done.value
                return result
            outcome = await self._perform(step)

    async def stream(self, steps: StreamSteps[T]) -> AsyncGenerator[T, None]:
        """Perform the steps of a stream, giving out what it emits. Closing it closes the connection."""
        feed: AsyncFeed | None = None
        outcome: object = None
        try:
            while True:
                try:
                    step = steps.send(outcome)
                except StopIteration:
                    return
                match step:
                    case Emit():
                        outcome = None
                        yield step.item
                    case Open():
                        feed, outcome = await self._open(step)
                    case Receive():
                        assert feed is not None
                        outcome = await feed.receive()
                        if not isinstance(outcome, bytes):
                            await _close(feed)
                            feed = None
                    case _:
                        outcome = await self._perform(step)
        finally:
            if feed is not None:
                await _close(feed)

    async def _perform(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
            await self._pace.sleep_async(step.delay_s)
            return None
        return await self._send(step.request)

    async def _send(self, request: Request) -> Answer | Fault:
        import httpx

        http = self._client()
        try:
            return answer_of(await http.send(http.build_request(**self._wiring.request_options(request))))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return fault_of(error)

    async def _open(self, step: Open) -> tuple[AsyncFeed | None, Opened | Answer | Fault]:
        return await (self._open_socket(step.request) if step.websocket else self._open_lines(step.request))

    async def _open_socket(self, request: Request) -> tuple[AsyncFeed | None, Opened | Answer | Fault]:
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        try:
            options = self._wiring.socket_options(request) | {"close_timeout": CLOSING_S}  # ours ends before
            return _AsyncSocketFeed(await connect(**options)), Opened()
        except (OSError, WebSocketException) as error:
            return None, refusal_of(error)

    async def _open_lines(self, request: Request) -> tuple[AsyncFeed | None, Opened | Answer | Fault]:
        import httpx

        http = self._client()
        try:
            response = await http.send(http.build_request(**self._wiring.request_options(request)), stream=True)
            if _is_feed(response):
                return _AsyncLineFeed(response), Opened()
            await response.aread()
            return None, answer_of(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, fault_of(error)

    def _client(self) -> "httpx.AsyncClient":
        if self._http is None:
            import httpx

            self._http = httpx.AsyncClient(**self._wiring.client_options())
        return self._http


async def _close(feed: AsyncFeed) -> None:
    """In good order although the caller was cancelled, be it from a scope, which would interrupt each wait again.

    No longer than `CLOSING_S`: who is told to stop stops.
    """
    import anyio

    with anyio.move_on_after(CLOSING_S, shield=True):
        await feed.close()


def _is_feed(response: "httpx.Response") -> bool:
    return response.status_code == 200 and response.headers.get("content-type", "").startswith(NDJSON)


class _SyncSocketFeed:
    def __init__(self, socket: "SyncSocket", held: ExitStack) -> None:
        self._socket, self._held = socket, held

    def receive(self) -> bytes | Closed | Fault:
        from websockets.exceptions import ConnectionClosed

        try:
            return self._socket.recv(decode=False)
        except ConnectionClosed as error:
            return end_of(error)

    def close(self) -> None:
        self._held.close()


class _AsyncSocketFeed:
    def __init__(self, socket: "AsyncSocket") -> None:
        self._socket = socket

    async def receive(self) -> bytes | Closed | Fault:
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            return end_of(error)

    async def close(self) -> None:
        import anyio

        # The library's own patience is an asyncio.timeout. In a task that was cancelled the first Pythons 3.11 let a
        # cancellation out of it instead of the TimeoutError, and the connection stayed open.
        with anyio.move_on_after(GOODBYE_S):
            await self._socket.close()
        self._socket.transport.abort()
        await self._socket.wait_closed()


class _SyncLineFeed:
    def __init__(self, response: "httpx.Response") -> None:
        self._response, self._chunks = response, response.iter_bytes()
        self._cutter, self._ready = LineCutter(), list[bytes]()

    def receive(self) -> bytes | Closed | Fault:
        import httpx

        try:
            while not self._ready:
                self._ready = self._cutter.feed(next(self._chunks))[::-1]
        except StopIteration:
            return Closed(code=1000)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return fault_of(error)
        return self._ready.pop()

    def close(self) -> None:
        self._response.close()


class _AsyncLineFeed:
    def __init__(self, response: "httpx.Response") -> None:
        self._response, self._chunks = response, response.aiter_bytes()
        self._cutter, self._ready = LineCutter(), list[bytes]()

    async def receive(self) -> bytes | Closed | Fault:
        import httpx

        try:
            while not self._ready:
                self._ready = self._cutter.feed(await anext(self._chunks))[::-1]
        except StopAsyncIteration:
            return Closed(code=1000)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return fault_of(error)
        return self._ready.pop()

    async def close(self) -> None:
        await self._response.aclose()
