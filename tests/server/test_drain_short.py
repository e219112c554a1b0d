"""The end of a server, in short: what fits is finished, what does not is interrupted, and nothing holds it up."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from crash.checker import read
from crash.ledger import read_effects
from server.drain_load import APPS, Book, Load, drain_faults, environment, stored_faults
from server.process import ServerProcess

GRACE_S = 1.5
MARGIN_S = 2.0


def served(folder: Path, *, wait: bool = True) -> ServerProcess:
    settings = {"EXECUTION__GRACE": f"{GRACE_S:g}s", "EXECUTION__WORKER_CONCURRENCY": "50"}
    return ServerProcess(folder, apps=APPS, settings=settings, environment=environment(folder), wait=wait)


class Begun:
    """An instance of one task, on a server, whose body has begun."""

    def __init__(self, server: ServerProcess, job: str) -> None:
        with asker(server) as client:
            done = client.post("/api/v1/workflows", json={"id": "one", "tasks": [{"name": "t", "job": job}]})
            assert done.status_code in (200, 201), done.text
            self.instance = client.post("/api/v1/workflows/one/execute", json={}).json()["data"]["instance_id"]
        eventually(lambda: self.instance in {each.instance for each in read_effects(server.folder / "effects.log")})

    def ended(self, server: ServerProcess) -> tuple[str, list[str]]:
        """Its state at its end, and what its attempts but the last one came to."""
        with asker(server) as client:
            state = client.get(f"/api/v1/instances/{self.instance}?wait=20s").json()["data"]["status"]
            task = client.get(f"/api/v1/instances/{self.instance}/tasks/t").json()["data"]
        return state, [attempt["outcome"] for attempt in task["attempts"]]


def asker(server: ServerProcess) -> httpx.Client:
    return httpx.Client(base_url=server.address, headers=server.headers, timeout=30, trust_env=False)


def eventually(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)  # a file of another process has nothing to wait on


def ended_after(server: ServerProcess, *numbers: signal.Signals) -> tuple[int, float]:
    """The exit code, and the seconds since the last of these signals, which are heard one by one."""
    for number in numbers[:-1]:
        server.signal(number)
        server.until_said("server.stopping")
    sent_s = server.signal(numbers[-1])
    return server.wait(), time.monotonic() - sent_s


async def test_under_load_what_fits_is_finished_and_nothing_is_lost(tmp_path: Path) -> None:
    book = Book(seed=1)
    with served(tmp_path, wait=False) as server:
        await asyncio.to_thread(server.until_ready)
        load = Load(server, book, clients=8)
        await load.upload()
        await load.start([book.order("长-thread"), book.order("长-async")])
        running = asyncio.ensure_future(load.run())
        await asyncio.wait([running], timeout=0.5)  # under load, at any moment of it
        sent_s = server.signal()
        code = await asyncio.to_thread(server.wait)
        took_s = time.monotonic() - sent_s
        load.gone()
        await running
        assert (code, list(drain_faults(load.seen, busy=True))) == (0, [])
        assert took_s < GRACE_S + MARGIN_S
        assert "Traceback" not in server.log
    with served(tmp_path, wait=False) as server:
        await asyncio.to_thread(server.until_ready)
        await Load(server, book, clients=0).settle(20)
        assert await asyncio.to_thread(server.stop) == 0
    kept, lost = await read(server.database)
    assert [*lost, *stored_faults(book, kept, read_effects(tmp_path / "effects.log"))] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_idle_server_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with served(tmp_path) as server:
        code, took_s = ended_after(server, number)
        assert (code, "Traceback" in server.log) == (0, False)
        assert took_s < 1
        assert list((server.home / "servers").iterdir()) == []


def test_a_server_that_is_told_to_end_before_it_is_ready_ends_in_order(tmp_path: Path) -> None:
    with served(tmp_path, wait=False) as server:
        server.until_it_hears()
        code, took_s = ended_after(server, signal.SIGTERM)
        assert (code, "Traceback" in server.log) == (0, False)
        assert took_s < GRACE_S


def test_jobs_that_hear_nothing_do_not_hold_up_the_end(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        begun = [Begun(server, job) for job in ("聋-async", "聋-own_thread", "聋-to_thread")]
        code, took_s = ended_after(server, signal.SIGTERM)
        assert (code, "Traceback" in server.log) == (0, False)
        assert took_s < GRACE_S + MARGIN_S
    with served(tmp_path) as server:
        assert [each.ended(server) for each in begun] == [("Success", ["interrupted"])] * 3


@pytest.mark.parametrize("job", ["长-thread", "堵-loop"])
def test_a_second_signal_ends_it_at_once_and_the_next_start_recovers(tmp_path: Path, job: str) -> None:
    with served(tmp_path) as server:
        begun = Begun(server, job)
        if job == "堵-loop":  # it cannot say that it has heard the first one
            server.signal()
            server.until_one_is_taken()
            code, took_s = ended_after(server, signal.SIGINT)
        else:
            code, took_s = ended_after(server, signal.SIGTERM, signal.SIGINT)
        assert code == 130
        assert took_s < 1
    with served(tmp_path) as server:
        assert begun.ended(server)[0] == "Success"
