"""SIGTERM at any moment of a server under load: what fits is finished, the rest is interrupted, nothing is lost."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest
from crash.checker import read
from crash.ledger import read_effects
from server.drain_load import APPS, LONG, Book, Load, drain_faults, environment, stored_faults
from server.process import ServerProcess
from torture.figures import note

pytestmark = pytest.mark.torture

ROUNDS = int(os.environ.get("TASKENGINE_TEST_DRAIN_ROUNDS", "50"))
SEED = int(os.environ.get("TASKENGINE_TEST_DRAIN_SEED", "1"))
INSTANCES = int(os.environ.get("TASKENGINE_TEST_DRAIN_INSTANCES", "10000"))
CLIENTS = 64
GRACE_S = 5.0
MARGIN_S = 2.0
SETTINGS = {
    "EXECUTION__GRACE": f"{GRACE_S:g}s",
    "EXECUTION__WORKER_CONCURRENCY": "100",
    "EXECUTION__PROCESS_WORKERS": "4",
    "EXECUTION__DEFAULT_TASK_TIMEOUT": "none",
}


def served(folder: Path, **more: str) -> ServerProcess:
    settings = {**SETTINGS, **more}
    return ServerProcess(folder, apps=APPS, settings=settings, environment=environment(folder), wait=False)


class Round:
    """One life under load, and its end by a signal."""

    def __init__(self, folder: Path, book: Book, rng: random.Random) -> None:
        self._folder, self._book, self._rng = folder, book, rng
        self.faults: list[str] = []
        self.took_s = 0.0
        self.refused = 0

    async def live(self) -> None:
        rng, kinds = self._rng, list(LONG)
        number = rng.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGINT])
        long = rng.sample(kinds, k=rng.choice([0, 0, 1, 2, 3]))
        with served(self._folder) as server:
            await asyncio.to_thread(server.until_ready)
            load = Load(server, self._book, clients=CLIENTS)
            await load.upload()
            await load.start([self._book.order(kind) for kind in long])
            running = asyncio.ensure_future(load.run())
            await asyncio.wait([running], timeout=rng.uniform(0.1, 2.0))  # the moment is the point
            signalled_s = server.signal(number)
            code = await asyncio.to_thread(server.wait, GRACE_S + 30)
            self.took_s = time.monotonic() - signalled_s
            load.gone()
            await running
            self._judge(code, server.log, load, long)

    def _judge(self, code: int, log: str, load: Load, long: list[str]) -> None:
        if code != 0:
            self.faults.append(f"exit code {code}")
        if self.took_s > GRACE_S + MARGIN_S:
            self.faults.append(f"it took {self.took_s:.1f} s")
        if "Traceback" in log or " ERROR " in log:
            self.faults.append(f"its log:\n{log[-3000:]}")
        # A long body that has not begun holds up nothing: 3 s tell that there was one.
        self.faults += drain_faults(load.seen, busy=bool(long) and self.took_s > GRACE_S / 2)
        self.refused = load.seen.drained()["start", 503]


async def test_what_fits_into_the_grace_is_finished_and_nothing_is_lost(tmp_path: Path) -> None:
    book, rng, rounds = Book(SEED), random.Random(SEED), list[Round]()
    for number in range(ROUNDS):
        rounds.append(Round(tmp_path, book, rng))
        await rounds[-1].live()
        print(f"round {number}: {rounds[-1].took_s:.2f} s, {len(book.acknowledged)} acknowledged", flush=True)
        assert rounds[-1].faults == [], f"seed {SEED}, round {number}"
    await let_begin(tmp_path, book)
    with served(tmp_path) as server:
        await asyncio.to_thread(server.until_ready)
        await Load(server, book, clients=0).settle(300)
        assert await asyncio.to_thread(server.stop) == 0
    kept, lost = await read(tmp_path / "engine.db")
    effects = read_effects(tmp_path / "effects.log")
    faults = [*lost, *stored_faults(book, kept, effects)]
    longest_s = max(each.took_s for each in rounds)
    interrupted = sum(bool(it.attempts) for it in kept)
    note(
        "drain",
        rounds=ROUNDS,
        clients=CLIENTS,
        grace_s=GRACE_S,
        longest_exit_s=round(longest_s, 2),
        instances=len(kept),
        bodies=len(effects),
        interrupted=interrupted,
        refused_starts=sum(each.refused for each in rounds),
        lost=sum("acknowledged" in fault for fault in faults),
        reruns_of_what_fitted=sum("ran as" in fault for fault in faults),
    )
    print(f"longest {longest_s:.2f} s, {len(kept)} instances, {len(effects)} bodies, {interrupted} interrupted")
    assert faults[:20] == []
    assert interrupted > 0 or ROUNDS < 5


async def let_begin(folder: Path, book: Book) -> None:
    """One more drain, for long bodies that had no chance to begin before."""
    with served(folder) as server:
        await asyncio.to_thread(server.until_ready)
        long = {book.acknowledged[key] for key, order in book.asked.items() if order.workflow in LONG}
        deadline_s = time.monotonic() + 30
        while not long <= {effect.instance for effect in read_effects(folder / "effects.log")}:
            assert time.monotonic() < deadline_s, "a long body does not begin"
            await asyncio.sleep(0.1)  # the ledger is a file of another process
        assert await asyncio.to_thread(server.stop) == 0
