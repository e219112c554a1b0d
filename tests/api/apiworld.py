"""A whole API in this process: an engine, its tokens, the application, and a real server when a test wants a socket."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from engine.worlds import Lines
from litestar import Litestar

from taskengine.ambient import Ambient
from taskengine.api.app import make_app
from taskengine.api.gate import HostRules, Limits, MemoryAudit, TokenBook
from taskengine.api.gate.tokens import digest_of, new_secret
from taskengine.api.parts import ApiParts
from taskengine.api.stream.hub import Hub
from taskengine.clock import Clock, Micros, SystemClock
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.records import TokenRow
from taskengine.probe import Probe

SCOPES = ("read", "operate", "define", "admin")
STARTED_AT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMIT_S = 20.0
GENEROUS = Limits(failed_logins_per_minute=1_000_000)

LINEAR = """\
id: linear
name: Linear
params:
  city: {type: string, default: 上海}
tasks:
  - name: first
    job: noop
  - name: second
    job: noop
    depends_on: [first]
"""


class Counts:
    """Metrics by name and labels."""

    def __init__(self) -> None:
        self.counted: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self.observed: list[str] = []

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        key = (name, tuple(sorted(labels.items())))
        self.counted[key] = self.counted.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.observed.append(name)

    def total(self, name: str, **labels: str) -> int:
        wanted = set(labels.items())
        return sum(count for (known, given), count in self.counted.items() if known == name and wanted <= set(given))


class ApiWorld:
    """One server's inside. `secrets` holds a token of each scope; `app` is what a client talks to."""

    def __init__(self, engine: Engine, parts: ApiParts, app: Litestar, log: Lines, metrics: Counts) -> None:
        self.engine, self.parts, self.app = engine, parts, app
        self.log, self.metrics = log, metrics
        self.secrets: dict[str, str] = {}
        self.port = 0

    @property
    def tokens(self) -> TokenBook:
        return self.parts.tokens

    @property
    def audit(self) -> MemoryAudit:
        assert isinstance(self.parts.audit, MemoryAudit)
        return self.parts.audit

    def headers(self, scope: str | None) -> dict[str, str]:
        return {} if scope is None else {"Authorization": f"Bearer {self.secrets[scope]}"}

    def client(self, scope: str | None = "admin", **options: Any) -> httpx.AsyncClient:
        """Straight into the application, without a socket. `scope` None: without a token."""
        options = {"base_url": "http://localhost", "headers": self.headers(scope), "timeout": LIMIT_S} | options
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), **options)


@asynccontextmanager
async def api_world(
    *,
    dsn: str | Path = "memory://",
    clock: Clock | None = None,
    limits: Limits = GENEROUS,
    hosts: HostRules | None = None,
    read_only: bool = False,
    handlers: list[Any] | None = None,
    jobs: dict[str, Callable[..., Any]] | None = None,
    health: Callable[[], Any] = lambda: "ok",
) -> AsyncIterator[ApiWorld]:
    log, metrics = Lines(), Counts()
    ambient = Ambient(clock=clock or SystemClock(), probe=Probe(), metrics=metrics, log=log)
    builder = EngineBuilder(ambient).with_store(dsn)
    for name, function in (jobs or {}).items():
        builder.with_job_func(name, function)
    async with builder.build() as engine:
        tokens = TokenBook(engine, ambient)
        await tokens.load()
        hub = Hub(engine.bus, ambient=ambient)
        parts = ApiParts(
            engine=engine,
            tokens=tokens,
            limits=limits,
            hosts=hosts or HostRules(),
            read_only=read_only,
            audit=MemoryAudit(),
            started_at=STARTED_AT,
            address=lambda: f"http://127.0.0.1:{world.port}",
            node_id="node-1",
            health=health,
            metrics=lambda: b"# HELP taskengine_up 1\n",
            loop_lag=lambda: 0.0,
            clock=ambient.clock,
            hub=hub,
            ambient=ambient,
        )
        world = ApiWorld(engine, parts, make_app(parts, handlers), log, metrics)
        for scope in SCOPES:
            _, world.secrets[scope] = await tokens.create(f"{scope} token", scope)  # type: ignore[arg-type]
        world.secrets["expired"] = new_secret()
        await engine.save(expired_row(world.secrets["expired"], ambient.clock))
        await tokens.load()
        revoked, world.secrets["revoked"] = await tokens.create("revoked", "admin")
        await tokens.revoke(revoked.id)
        world.secrets["wrong"] = "te_" + "x" * 43
        await hub.start()
        try:
            yield world
        finally:
            await hub.stop()


def expired_row(secret: str, clock: Clock) -> TokenRow:
    now_us = clock.now_us()
    return TokenRow(
        id="expired",
        name="expired",
        scope="admin",
        digest=digest_of(secret),
        created_us=Micros(now_us - 2),
        expires_us=Micros(now_us - 1),
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces, e.g. that the server has seen a client leave."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class _Server(uvicorn.Server):
    """A uvicorn that says when it listens, and leaves signals to the test runner."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(world: ApiWorld, **options: Any) -> AsyncIterator[int]:
    """A real server on a free port of the loopback, on this loop; gives the port."""
    config = uvicorn.Config(
        world.app,
        log_config=None,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        ws_max_size=64 * 1024,
        timeout_graceful_shutdown=1,
        **options,
    )
    server = _Server(config)
    # With the protocol said: asyncio sets TCP_NODELAY on such sockets only, and without it each answer takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        world.port = listener.getsockname()[1]
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await asyncio.wait_for(server.listening.wait(), LIMIT_S)
            yield world.port
        finally:
            server.should_exit = True
            await asyncio.wait_for(running, LIMIT_S)


@contextmanager
def background_server(**options: Any) -> Iterator[ApiWorld]:
    """A world with a real server on a loop of its own in a thread, for clients that block."""
    ready: threading.Event = threading.Event()
    found: list[ApiWorld] = []
    failed: list[BaseException] = []
    stop: list[Callable[[], object]] = []

    async def live() -> None:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(end.set))
        async with api_world(**options) as world, listening(world):
            found.append(world)
            ready.set()
            await end.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="api server")
    thread.start()
    try:
        assert ready.wait(LIMIT_S), "the server did not start"
        if failed:
            raise failed[0]
        yield found[0]
    finally:
        with suppress(RuntimeError):  # its loop has closed already: it failed
            stop[0]()
        thread.join(LIMIT_S)
    if failed:
        raise failed[0]
