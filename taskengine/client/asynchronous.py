"""The client for programs with an event loop."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

from taskengine.client import verbs
from taskengine.client.calls import Flow
from taskengine.client.facade import as_each, as_method, first_page, next_page, prepare
from taskengine.client.following import OnState, stream_frames, stream_lines
from taskengine.client.pace import Pace, Patience
from taskengine.client.transport import AsyncTransport
from taskengine.wire.envelope import Page
from taskengine.wire.frames import StreamFrame
from taskengine.wire.instances import InstanceBody, LogLine

__all__ = ["AsyncClient", "AsyncWatch"]

P = ParamSpec("P")
T = TypeVar("T")


def _verb(description: Callable[P, Flow[T]]) -> Callable[Concatenate["AsyncClient", P], Awaitable[T]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(description(*args, **kwargs))

    return as_method(description, method)


def _each(description: Callable[P, Flow[Page[T]]]) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[T]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        said = first_page(kwargs)
        while True:
            page = await self._run(cast(Callable[..., Flow[Page[T]]], description)(*args, **said))
            for item in page.items:
                yield item
            if not page.has_more:
                return
            said = next_page(said, page.cursor)

    return as_each(description, method)


class AsyncClient:
    """Talks to a server; each verb is awaited. Use it as an async context manager, or `await close()` it.

    server            `http://host:port`; None: the only server that runs on this machine
    token, token_file who asks; without either $TASKENGINE_TOKEN_FILE, else the token that a local server left
    patience          timeouts and repetitions
    ca_file           certificates of the authority that signed the server's, where the system does not know it
    allow_plain_http  let the token travel readable to another machine
    pace              time and chance, for tests

    The verbs raise what an engine in this process would raise, and ServerUnreachable, NotAllowed, TooManyRequests.
    Belongs to one event loop.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        token_file: str | Path | None = None,
        *,
        patience: Patience | None = None,
        ca_file: str | Path | None = None,
        allow_plain_http: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self._asking, wiring, pace = prepare(
            server,
            token,
            token_file,
            patience=patience,
            ca_file=ca_file,
            allow_plain_http=allow_plain_http,
            pace=pace,
        )
        self._transport = AsyncTransport(wiring, pace)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r}, {self._asking.target.token!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections; again is fine."""
        await self._transport.close()

    @property
    def address(self) -> str:
        """Of the server."""
        return self._asking.target.address

    async def _run(self, flow: Flow[T]) -> T:
        return await self._transport.run(self._asking.conduct(flow))

    upload = _verb(verbs.upload)
    validate = _verb(verbs.validate)
    workflows = _verb(verbs.workflows)
    workflow = _verb(verbs.workflow)
    versions = _verb(verbs.versions)
    delete_workflow = _verb(verbs.delete_workflow)
    export = _verb(verbs.export)
    graph = _verb(verbs.graph)
    execute = _verb(verbs.execute)
    instances = _verb(verbs.instances)
    iter_instances = _each(verbs.instances)
    instance = _verb(verbs.instance)
    detail = _verb(verbs.detail)
    tasks = _verb(verbs.tasks)
    task = _verb(verbs.task)
    explain = _verb(verbs.explain)
    history = _verb(verbs.history)
    pause = _verb(verbs.pause)
    resume = _verb(verbs.resume)
    cancel = _verb(verbs.cancel)
    retry = _verb(verbs.retry)
    fork = _verb(verbs.fork)
    add_tasks = _verb(verbs.add_tasks)
    signal = _verb(verbs.signal)
    logs = _verb(verbs.logs)
    events = _verb(verbs.events)
    functions = _verb(verbs.functions)
    status = _verb(verbs.status)
    nodes = _verb(verbs.nodes)
    database = _verb(verbs.database)
    prune = _verb(verbs.prune)
    version = _verb(verbs.version)
    health = _verb(verbs.health)
    tokens = _verb(verbs.tokens)
    create_token = _verb(verbs.create_token)
    revoke_token = _verb(verbs.revoke_token)
    rotate_token = _verb(verbs.rotate_token)

    def stream(
        self,
        instance_id: str | None = None,
        workflow_id: str | None = None,
        *,
        types: Sequence[str] = (),
        status: Sequence[str] = (),
        since: int | str | None = None,
        keep: bool = False,
        on_state: OnState | None = None,
    ) -> AsyncGenerator[StreamFrame, None]:
        """What happens, as it happens: to one instance, to the instances of a workflow, or to all.

        First a snapshot, then what is newer; with `since`, a `seq` of that instance or else a `cursor`, everything
        after it. A cut connection is made again and goes on where it was: nothing is missing and nothing comes twice,
        unless a GapFrame says so, and then a snapshot follows. `types` and `status` choose among the updates. The
        stream of one instance ends with it, unless `keep`, since a retry may open a new run. To end a stream before its
        end, leave the loop and `await aclose()` it.
        """
        steps = stream_frames(
            self._asking,
            instance_id,
            workflow_id,
            types=types,
            status=status,
            since=since,
            keep=keep,
            on_state=on_state,
        )
        return self._transport.stream(steps)

    def follow_logs(
        self,
        instance_id: str,
        *,
        task: str | None = None,
        since: int = 0,
        tail: int | None = None,
        on_state: OnState | None = None,
    ) -> AsyncGenerator[LogLine, None]:
        """The stored log lines, with `tail` the last so many of them, then new ones until the instance has ended.

        A cut connection is made again and goes on with the next line.
        """
        steps = stream_lines(self._asking, instance_id, task=task, since=since, tail=tail, on_state=on_state)
        return self._transport.stream(steps)

    def watch(self, instance_id: str, *, since: int | None = None, on_state: OnState | None = None) -> "AsyncWatch":
        """Wait for an instance to end: loop over what it gives, then or at once ask its `result()`.

        With `since=0` everything that it has done so far is told too.
        """
        return AsyncWatch(self, instance_id, since, on_state)


class AsyncWatch:
    """The frames of one instance up to its end."""

    def __init__(self, client: AsyncClient, instance_id: str, since: int | None, on_state: OnState | None) -> None:
        self._client, self._instance_id = client, instance_id
        self._frames = client.stream(instance_id, since=since, on_state=on_state)

    def __aiter__(self) -> AsyncIterator[StreamFrame]:
        return self._frames

    async def result(self) -> InstanceBody:
        """Wait for the end, if it has not come, and give the instance as it then is."""
        async for _ in self._frames:
            pass
        return await self._client.instance(self._instance_id)

    async def close(self) -> None:
        """Stop watching."""
        await self._frames.aclose()
