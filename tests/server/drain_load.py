"""Load on a real server that is told to end: clients, probes and streams; what they saw, and what must hold for it."""

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from crash.checker import Kept, instance_faults
from crash.ledger import Effect
from server.process import ServerProcess
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from taskengine.model.records import Outcome
from taskengine.model.states import InstanceState

__all__ = ["APPS", "Book", "Load", "Seen", "drain_faults", "effects_by_task", "environment", "missing", "stored_faults"]

APPS: Final = (Path(__file__).parents[1] / "crash" / "jobs.py", Path(__file__).with_name("drain_jobs.py"))
FITTING: Final = ("两步", "process")
LONG: Final = ("长-async", "长-thread", "长-process", "聋-to_thread")
_SECONDS: Final = (0.0, 0.02, 0.1, 0.5, 1.0)
_PACE_S: Final = 0.02


def environment(folder: Path) -> Mapping[str, str]:
    """Where the jobs leave their effects."""
    return {
        "TASKENGINE_TEST_EFFECTS": str(folder / "effects.log"),
        "TASKENGINE_TEST_DATABASE": str(folder / "engine.db"),
    }


def _step(name: str, job: str, *needs: str) -> dict[str, Any]:
    inputs = ["${{ tasks." + need + ".result }}" for need in needs]
    params = {"inputs": inputs, "own": 1, "seconds": "${{ params.seconds }}"}
    return {"name": name, "job": job, "params": params, "depends_on": list(needs)}


def definitions() -> list[dict[str, Any]]:
    """Two workflows whose bodies take as long as the start says, and one for each job that fits into no grace."""
    two = [_step("a", "步骤-async"), _step("b", "步骤-thread", "a")]
    return [
        {"id": "两步", "params": {"seconds": 0.0}, "tasks": two},
        {"id": "process", "params": {"seconds": 0.0}, "tasks": [_step("a", "步骤-process")]},
        *({"id": job, "tasks": [{"name": "a", "job": job}]} for job in LONG),
    ]


class Order(msgspec.Struct, frozen=True):
    """One start that somebody wants."""

    key: str
    workflow: str
    params: Mapping[str, float] = {}


class Book:
    """What was asked for over all rounds. An order is asked for, under its key, until it is acknowledged."""

    def __init__(self, seed: int, *, longest_s: float = 1.0) -> None:
        self._rng = random.Random(seed)
        self._seconds = [each for each in _SECONDS if each <= longest_s]
        self._numbers = itertools.count()
        self.unanswered: list[Order] = []
        self.acknowledged: dict[str, str] = {}
        self.asked: dict[str, Order] = {}

    def next(self) -> Order:
        if self.unanswered:
            return self.unanswered.pop(0)
        workflow = self._rng.choices(FITTING, weights=(20, 1))[0]
        seconds = self._rng.choice(self._seconds) if workflow == "两步" else 0.02
        return self.order(workflow, {"seconds": seconds})

    def order(self, workflow: str, params: Mapping[str, float] | None = None) -> Order:
        order = Order(f"key-{next(self._numbers)}", workflow, params or {})
        self.asked[order.key] = order
        return order


class Answer(msgspec.Struct, frozen=True):
    """What one request came to; status 0: the connection was refused or cut."""

    sent_s: float
    what: str
    status: int


class Seen:
    """What the clients of one round saw."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.endings: list[tuple[int, str]] = []

    def drained(self) -> Counter[tuple[str, int]]:
        """Answers to what was sent after somebody had been told 503 by /readyz."""
        since_s = self.drain_s
        return Counter((each.what, each.status) for each in self.answers if each.sent_s > since_s)

    @property
    def drain_s(self) -> float:
        """When the first 503 of /readyz had come, counted by the next request; infinite without one."""
        told = [each.sent_s for each in self.answers if (each.what, each.status) == ("readyz", 503)]
        return min(told, default=float("inf"))


class Load:
    """Clients on one life of a server. `run` until it has gone."""

    def __init__(self, server: ServerProcess, book: Book, *, clients: int, streams: int = 2) -> None:
        self._base, self._headers = server.address, server.headers
        self._book, self._clients, self._streams = book, clients, streams
        self.seen = Seen()
        self._gone = False

    async def upload(self) -> None:
        async with self._client() as client:
            for definition in definitions():
                reply = await client.post("/api/v1/workflows", json=definition)
                assert reply.status_code in (200, 201), reply.text

    async def start(self, orders: Sequence[Order]) -> None:
        """Acknowledged before it returns."""
        async with self._client() as client:
            for order in orders:
                assert await self._start(client, order), f"{order} was refused"

    async def run(self) -> None:
        """Until `gone` is said."""
        async with self._client() as client, asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._live(client))
            tasks.create_task(self._probe(client))
            for _ in range(self._streams):
                tasks.create_task(self._listen())

    def gone(self) -> None:
        """The process has ended: nobody asks any more."""
        self._gone = True

    async def settle(self, patience_s: float) -> None:
        """Ask for all that was never acknowledged, and wait until every instance has ended."""
        async with self._client() as client, asyncio.timeout(patience_s):
            while self._book.unanswered:
                await self._start(client, self._book.unanswered.pop(0))
            for instance in self._book.acknowledged.values():
                while not await self._has_ended(client, instance, wait="10s"):
                    pass

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(base_url=self._base, headers=self._headers, timeout=30, limits=limits, trust_env=False)

    async def _live(self, client: httpx.AsyncClient) -> None:
        """One after the other, as somebody who waits for what he has started."""
        while not self._gone:
            order = self._book.next()
            if await self._start(client, order):
                instance = self._book.acknowledged[order.key]
                while not self._gone and not await self._has_ended(client, instance, wait="1s"):
                    pass
            else:
                await asyncio.sleep(_PACE_S)

    async def _probe(self, client: httpx.AsyncClient) -> None:
        """The three laws of a drain, asked for in turns."""
        while not self._gone:
            await self._ask(client, "readyz", "GET", "/readyz")
            await self._ask(client, "get", "GET", "/api/v1/instances?limit=1")
            if self.seen.drain_s < time.monotonic():
                await self._start(client, self._book.next())
            await asyncio.sleep(_PACE_S)

    async def _listen(self) -> None:
        address = self._base.replace("http", "ws", 1) + "/api/v1/ws/events"
        try:
            async with connect(address, additional_headers=self._headers, proxy=None) as stream:
                async for _ in stream:
                    pass
                self.seen.endings.append((stream.close_code or 0, stream.close_reason or ""))
        except ConnectionClosed as closed:
            self.seen.endings.append((closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "cut"))
        except (OSError, WebSocketException) as error:
            self.seen.endings.append((0, f"not connected: {error}"))

    async def _start(self, client: httpx.AsyncClient, order: Order) -> bool:
        path, headers = f"/api/v1/workflows/{order.workflow}/execute", {"Idempotency-Key": order.key}
        reply = await self._ask(client, "start", "POST", path, headers=headers, json={"params": order.params})
        if reply is None or reply.status_code == 503:
            self._book.unanswered.append(order)
            return False
        assert reply.status_code in (200, 202), f"{order}: {reply.status_code} {reply.text}"
        instance = msgspec.json.decode(reply.content)["data"]["instance_id"]
        known = self._book.acknowledged.setdefault(order.key, instance)
        assert known == instance, f"{order.key} was acknowledged as {known} and as {instance}"
        return True

    async def _has_ended(self, client: httpx.AsyncClient, instance: str, *, wait: str) -> bool:
        reply = await self._ask(client, "get", "GET", f"/api/v1/instances/{instance}?wait={wait}")
        if reply is None:
            await asyncio.sleep(_PACE_S)  # nobody is there, and soon nobody will ask
            return False
        assert reply.status_code == 200, f"{instance}: {reply.status_code} {reply.text}"
        return InstanceState(msgspec.json.decode(reply.content)["data"]["status"]) in (
            InstanceState.SUCCESS,
            InstanceState.FAILED,
        )

    async def _ask(
        self, client: httpx.AsyncClient, what: str, method: str, path: str, **more: Any
    ) -> httpx.Response | None:
        sent_s = time.monotonic()
        try:
            reply = await client.request(method, path, **more)
        except httpx.TransportError:
            self.seen.answers.append(Answer(sent_s, what, 0))
            return None
        # A readyz counts from its answer: what another client sent before that may have been first.
        self.seen.answers.append(Answer(time.monotonic() if what == "readyz" else sent_s, what, reply.status_code))
        return reply


def drain_faults(seen: Seen, *, streams: int = 2, busy: bool) -> Iterator[str]:
    """What clients may see of a drain. `busy`: one that fits into no grace was running, and there was time to look."""
    drained = seen.drained()
    allowed = {"start": (503, 0), "get": (200, 0), "readyz": (503, 0)}
    yield from (
        f"{count} times {status} for {what} during the drain"
        for (what, status), count in drained.items()
        if status not in allowed[what]
    )
    if busy:
        yield from (
            f"nobody was told {word} for {what} during the drain"
            for what, word in (("start", 503), ("get", 200), ("readyz", 503))
            if not drained[what, word]
        )
    wanted = [(1012, "the server is stopping")] * streams
    if seen.endings != wanted:
        yield f"streams ended with {seen.endings}"
    odd = {(each.what, each.status) for each in seen.answers} - {
        ("start", 202),
        ("start", 200),
        ("start", 503),
        ("start", 0),
        ("get", 200),
        ("get", 0),
        ("readyz", 200),
        ("readyz", 503),
        ("readyz", 0),
    }
    if odd:
        yield f"answered {sorted(odd)}"


def effects_by_task(effects: Iterable[Effect]) -> Mapping[tuple[str, str], Sequence[Effect]]:
    found: defaultdict[tuple[str, str], list[Effect]] = defaultdict(list)
    for effect in effects:
        found[effect.instance, effect.task].append(effect)
    return found


def missing(book: Book, kept: Sequence[Kept]) -> Iterator[str]:
    """One instance for each order, and what was acknowledged is the one that is there."""
    by_key = {it.row.idempotency_key: it.row.id for it in kept}
    if len(by_key) != len(kept) or set(by_key) != set(book.asked):
        yield f"{len(kept)} instances of {len(by_key)} keys for {len(book.asked)} orders"
    for key, instance in book.acknowledged.items():
        if by_key.get(key) != instance:
            yield f"{key} was acknowledged as {instance} and is {by_key.get(key)}"


def stored_faults(book: Book, kept: Sequence[Kept], effects: Sequence[Effect]) -> Iterator[str]:
    """After everything has come to rest: what was acknowledged is there, and what fitted ran once."""
    yield from missing(book, kept)
    by_task = effects_by_task(effects)
    for it in kept:
        key = it.row.idempotency_key
        long = it.row.workflow_id in LONG
        if it.row.state is not InstanceState.SUCCESS:
            yield f"{key} is {it.row.state}: {it.row.error}"
        yield from (f"{key}: {fault}" for fault in instance_faults(it, by_task, kills=1 if long else 0))
        for task in it.tasks.values():
            runs = [effect.attempt for effect in by_task.get((it.row.id, task.name), ())]
            ends = [attempt.outcome for attempt in it.attempts if attempt.ordinal == task.ordinal]
            if len(runs) != (2 if long else 1) or ends != ([Outcome.INTERRUPTED] if long else []) or task.tries:
                yield f"{key}, {it.row.workflow_id}, {task.name}: ran as {runs}, ended as {ends}, tries {task.tries}"
