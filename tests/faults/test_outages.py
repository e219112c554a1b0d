"""A server whose database is taken away again and again: nothing acknowledged is lost, nothing runs twice, the API says
503 meanwhile, and afterwards all is as fast as before."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from databases.asking import ask, with_database
from databases.private import PrivateServer, can_be_private
from databases.servers import SERVERS
from server.process import ServerProcess
from torture.figures import note

from faults.proxy import Proxy
from faults.weather import Weather

JOBS = Path(__file__).with_name("outage_jobs.py")
CLIENTS = 8
CALM_S = 4.0
QUIET_S = 60.0


@pytest.fixture(params=SERVERS)
def database(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    if not can_be_private(request.param):
        pytest.skip(f"the programs of a {request.param} server are not installed")
    with PrivateServer(request.param) as server:
        ask(server.dsn, "CREATE DATABASE taskengine")
        yield server


class Load:
    """Clients that start instances without a pause; each start has a key and is asked for until it is acknowledged."""

    def __init__(self, server: ServerProcess) -> None:
        self._http = httpx.AsyncClient(base_url=server.address, headers=server.headers, timeout=60, trust_env=False)
        self.acknowledged: list[str] = []
        self.answers: Counter[int] = Counter()

    async def upload(self) -> None:
        tasks = [
            {"name": "a", "job": "noted", "params": {"seconds": 0.01}},
            {"name": "b", "job": "noted", "depends_on": ["a"]},
        ]
        done = await self._http.post("/api/v1/workflows", json={"id": "wf", "tasks": tasks})
        assert done.status_code == 201, done.text

    async def run(self, seconds: float) -> float:
        """Acknowledged starts a second."""
        until_s, before = time.monotonic() + seconds, len(self.acknowledged)
        await asyncio.gather(*(self._client(until_s, f"{len(self.acknowledged)}-{n}") for n in range(CLIENTS)))
        return (len(self.acknowledged) - before) / seconds

    async def _client(self, until_s: float, name: str) -> None:
        count = 0
        while time.monotonic() < until_s:
            await self._start(f"{name}-{count}")
            count += 1

    async def _start(self, key: str) -> None:
        give_up_s = time.monotonic() + 90
        while True:
            assert time.monotonic() < give_up_s, f"never acknowledged; answers so far: {self.answers}"
            done = await self._http.post("/api/v1/workflows/wf/execute", json={}, headers={"Idempotency-Key": key})
            self.answers[done.status_code] += 1
            if done.status_code == 202:
                self.acknowledged.append(done.json()["data"]["instance_id"])
                return
            assert done.status_code in (429, 503), f"{done.text}"
            await asyncio.sleep(0.05)  # as Retry-After would have it, only sooner

    async def until_all_ended(self) -> Counter[str]:
        """How the instances have ended."""
        found: Counter[str] = Counter()
        for instance in self.acknowledged:
            deadline_s = time.monotonic() + QUIET_S
            while True:
                done = await self._http.get(f"/api/v1/instances/{instance}", params={"wait": "20s"})
                if done.status_code == 200 and done.json()["data"]["finished_at"]:
                    found[done.json()["data"]["status"]] += 1
                    break
                assert time.monotonic() < deadline_s, f"{instance}: {done.status_code} {done.text}"
                await asyncio.sleep(0.1)  # it was not there, or not ended, within the wait
        return found

    async def close(self) -> None:
        await self._http.aclose()


def check_ledgers(load: Load, effects: Path, dsn: str) -> None:
    """Every acknowledged instance is stored, and every body of it has run once and no more."""
    bodies = Counter((it[0], it[1]) for it in map(json.loads, effects.read_text().splitlines()))
    assert len(set(load.acknowledged)) == len(load.acknowledged), "one start was acknowledged as another's"
    wrong = {it: bodies[it] for start in load.acknowledged for it in [(start, "a"), (start, "b")] if bodies[it] != 1}
    assert wrong == {}
    rows, tasks = ask(
        dsn,
        "SELECT id FROM instances WHERE state = 'Success'",
        "SELECT count(*) FROM tasks WHERE state <> 'Success' OR attempt <> 1",
    )
    assert {str(row[0]) for row in rows} >= set(load.acknowledged)
    assert tasks[0][0] == 0


async def live_through(database: PrivateServer, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    dsn, effects = with_database(database.dsn, "taskengine"), folder / "effects.log"
    environment = {"TASKENGINE_TEST_EFFECTS": str(effects)}
    settings = {"LIMITS__STARTS_PER_SECOND": "100000"}
    with Proxy(dsn) as proxy:
        with ServerProcess(folder, dsn=proxy.dsn, apps=(JOBS,), settings=settings, environment=environment) as server:
            load = Load(server)
            try:
                await load.upload()
                await load.run(1.0)
                before = await load.run(CALM_S)
                with Weather(database, proxy, seed=seed) as weather:
                    during = await load.run(seconds)
                await load.run(8.0)
                after = await load.run(CALM_S)
                ended = await load.until_all_ended()
            finally:
                await load.close()
            assert set(ended) == {"Success"}, ended
            assert server.process.poll() is None
            assert server.stop() == 0, server.log[-3000:]
        check_ledgers(load, effects, dsn)
        return {
            "starts": len(load.acknowledged),
            "before": round(before),
            "during": round(during),
            "after": round(after),
            "refused": load.answers[503],
            "faults": dict(weather.happened),
        }


async def test_a_stormy_quarter_of_a_minute(database: PrivateServer, tmp_path: Path) -> None:
    seen = await live_through(database, tmp_path, 15.0, seed=1)
    assert sum(seen["faults"].values()) >= 2
    assert seen["after"] > 0.4 * seen["before"], seen


@pytest.mark.torture
async def test_minutes_of_bad_weather(database: PrivateServer, tmp_path: Path) -> None:
    seen = await live_through(database, tmp_path, 150.0, seed=2)
    assert seen["refused"] > 0, "the API never said that the store was away"
    assert {"restart", "kill", "commit after", "hole", "refuse"} <= set(seen["faults"])
    assert seen["after"] > 0.5 * seen["before"], seen
    note("outages", store=database.kind, **seen)
