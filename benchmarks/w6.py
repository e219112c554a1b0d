"""W6: a thousand WebSocket clients, each on its own instance, ten more on everything, and one that never reads.

Two questions. How late is a frame while a thousand events a second are told? And what do the clients cost the engine:
the same paced load with and without them, and a flood of workflows (W1's) while they are connected and quiet.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn

from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.rig import ratios, resident_mb, scratch, tune
from benchmarks.w1 import chain
from benchmarks.w6_clients import Report
from taskengine.ambient import Ambient
from taskengine.api.app import make_app
from taskengine.api.gate import HostRules, Limits, MemoryAudit, TokenBook
from taskengine.api.parts import ApiParts
from taskengine.api.stream.hub import Hub
from taskengine.api.stream.protocol import uvicorn_options
from taskengine.api.stream.routes import ROUTES
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.events import Event

__all__ = ["Clients", "run"]

_RATE: Final = 1000
_STEPS: Final = 60
_PACE_S: Final = 0.02


class _Sizes(msgspec.Struct, frozen=True):
    clients: int
    everything: int
    paced_s: float
    flood: int
    outstanding: int


class _Sample(msgspec.Struct):
    """One run. Latencies in ms; paced and flood a second; `quiet`: a thousand clients and nothing for them."""

    own: list[float]
    everything: list[float]
    paced: float
    paced_alone: float
    flood_alone: float
    flood_quiet: float
    flood_everything: float
    grown_mb: float
    gaps: int
    closed: int
    missing: int


class _Pace:
    """Bodies that wait to be let go, so many a second that the events come at the rate that is wanted."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self.told = 0

    async def step(self, x: int) -> int:
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(made)
        await made
        return x + 1

    def count(self, frame: object) -> None:
        self.told += isinstance(frame, Event)

    def let_go(self, count: int) -> None:
        for made in self._waiting[:count]:
            made.set_result(None)
        del self._waiting[:count]

    async def keep_up(self, seconds: float) -> float:
        """Events a second that came about; what is let go follows what was told, a fifth of a second behind."""
        began_s, first = time.perf_counter(), self.told
        allowed = 0.0
        while (spent_s := time.perf_counter() - began_s) < seconds:
            short = _RATE * spent_s - (self.told - first)
            allowed = min(max(short, 0.0), _RATE * _PACE_S * 2) / 2  # a step is two events: it began, it ended
            self.let_go(round(allowed))
            await asyncio.sleep(_PACE_S)
        return (self.told - first) / (time.perf_counter() - began_s)


class Clients:
    """The other process."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or "."}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.w6_clients"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    async def connect(self, **order: Any) -> None:
        """More of them; returns when all have their snapshots."""
        await self._ask(msgspec.json.encode(order))

    async def report(self) -> Report:
        return msgspec.json.decode(await self._ask(b""), type=Report)

    async def _ask(self, line: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()
        answer = await asyncio.get_running_loop().run_in_executor(None, self._process.stdout.readline)
        assert answer, "the process of the clients has ended"
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def _served(engine: Engine, ambient: Ambient) -> AsyncIterator[tuple[int, str]]:
    """The streams of an engine on a port of the loopback: the port, a token."""
    tokens, hub = TokenBook(engine, ambient), Hub(engine.bus, ambient=ambient)
    await tokens.load()
    _, secret = await tokens.create("w6", "read")
    await hub.start()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        parts = ApiParts(
            engine=engine,
            tokens=tokens,
            limits=Limits(websockets=100_000, websockets_per_principal=100_000),
            hosts=HostRules(),
            read_only=False,
            audit=MemoryAudit(),
            started_at=datetime.now(UTC),
            address=lambda: f"http://127.0.0.1:{port}",
            node_id="w6",
            health=lambda: "ok",
            metrics=lambda: b"",
            loop_lag=lambda: 0.0,
            clock=ambient.clock,
            hub=hub,
            ambient=ambient,
        )
        config = uvicorn.Config(
            make_app(parts, ROUTES), log_config=None, access_log=False, lifespan="off", **uvicorn_options()
        )
        server = _Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        await server.listening.wait()
        try:
            yield port, secret
        finally:
            await hub.stop()
            server.should_exit = True
            await serving


def _engine(path: Path, pace: _Pace, sizes: _Sizes, ambient: Ambient) -> Engine:
    builder = EngineBuilder(ambient).with_store(path).with_workers(sizes.clients + sizes.outstanding)

    async def add_one(x: int) -> int:
        return x + 1

    return builder.with_job_func("add-one", add_one).with_job_func("paced", pace.step).build()


async def _flood(engine: Engine, total: int, outstanding: int) -> float:
    """Workflows of W1 a second."""
    definition, numbers = chain(3, "add-one", "x"), iter(range(total))

    async def client() -> None:
        for x in numbers:
            await engine.wait_for_instance(await engine.execute_workflow(definition, {"start": x}))

    began_s = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(outstanding)])
    return total / (time.perf_counter() - began_s)


async def _sample(folder: Path, sizes: _Sizes) -> _Sample:
    pace, ambient = _Pace(), Ambient()
    clients = Clients()
    async with _engine(folder / "w6.db", pace, sizes, ambient) as engine:
        steps = chain(_STEPS, "paced", "x")
        names = [str(await engine.execute_workflow(steps, {"start": n})) for n in range(sizes.clients)]
        engine.bus.tap(pace.count)

        async def flood() -> float:
            return await _flood(engine, sizes.flood, sizes.outstanding)

        await flood()
        alone = [await flood()]
        paced_alone = await pace.keep_up(sizes.paced_s)
        before_mb = resident_mb()
        async with _served(engine, ambient) as (port, token):
            await clients.connect(port=port, token=token, instances=names, everything=0, deaf=0)
            quiet = await flood()
            await clients.connect(port=port, token=token, instances=[], everything=sizes.everything, deaf=1)
            await clients.report()
            told = pace.told
            paced = await pace.keep_up(sizes.paced_s)
            await asyncio.sleep(1)  # what is still on its way
            told = pace.told - told
            seen = await clients.report()
            grown_mb = resident_mb() - before_mb
            everything = await flood()
            after = await clients.report()
            clients.close()
        alone.append(await flood())
    return _Sample(
        own=[late * 1e3 for late in seen.own],
        everything=[late * 1e3 for late in seen.everything],
        paced=paced,
        paced_alone=paced_alone,
        flood_alone=sum(alone) / 2,
        flood_quiet=quiet,
        flood_everything=everything,
        grown_mb=grown_mb,
        gaps=seen.gaps,
        closed=after.closed,
        missing=told - len(seen.own),
    )


def run(settings: Settings) -> Outcome:
    """Each sample with a new store and new clients."""
    small = _Sizes(clients=20, everything=2, paced_s=0.5, flood=30, outstanding=10)
    sizes = small if settings.small else _Sizes(1000, 10, 10.0, 4000, 1000)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    tune()
    samples = []
    for _ in range(settings.runs):
        with scratch() as folder:
            samples.append(_run(_sample(folder, sizes)))
    own, everything = [sorted(sample.own) for sample in samples], [sorted(sample.everything) for sample in samples]
    alone = [sample.flood_alone for sample in samples]
    return Outcome(
        workload="w6",
        figures=[
            Figure(name="delivery to its own client, p50", unit="ms", samples=[_at(times, 50) for times in own]),
            Figure(
                name="delivery to its own client, p99",
                unit="ms",
                samples=[_at(times, 99) for times in own],
                at_most=250,
            ),
            Figure(
                name="delivery of everything, p99",
                unit="ms",
                samples=[_at(times, 99) for times in everything],
                at_most=250,
            ),
            Figure(name="events told, all connected", unit="1/s", samples=[sample.paced for sample in samples]),
            Figure(
                name="… over nobody connected",
                unit="",
                samples=ratios([sample.paced for sample in samples], [sample.paced_alone for sample in samples]),
                at_least=0.9,
            ),
            Figure(name="W1 beside nobody", unit="wf/s", samples=alone),
            Figure(
                name="W1 beside quiet clients, share",
                unit="",
                samples=ratios([sample.flood_quiet for sample in samples], alone),
                at_least=0.9,
            ),
            Figure(
                name="W1 told to all of everything, share",
                unit="",
                samples=ratios([sample.flood_everything for sample in samples], alone),
            ),
            Figure(
                name="memory of all clients", unit="MB", samples=[sample.grown_mb for sample in samples], at_most=200
            ),
            Figure(
                name="events an own client missed", unit="", samples=[sample.missing for sample in samples], at_most=0
            ),
            Figure(name="gaps while paced", unit="", samples=[sample.gaps for sample in samples], at_most=0),
        ],
        facts={
            "clients": sizes.clients,
            "on everything": sizes.everything,
            "frames measured": [len(sample.own) + len(sample.everything) for sample in samples],
            "readers closed": [sample.closed for sample in samples],
        },
    )


def _run(sample: Coroutine[Any, Any, _Sample]) -> _Sample:
    """On the loop that `serve` uses: uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(sample)
    return uvloop.run(sample)


def _at(times: Sequence[float], percent: int) -> float:
    """`times` sorted."""
    return times[min(len(times) - 1, len(times) * percent // 100)]
