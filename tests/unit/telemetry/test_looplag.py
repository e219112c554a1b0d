"""taskengine/telemetry/looplag.py: lateness is measured, and who holds the loop is named."""

import asyncio
import threading
import time

from taskengine.ambient import Ambient
from taskengine.clock import ManualClock
from taskengine.telemetry.looplag import LoopLag, place_of


class Recorder:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.told = threading.Event()

    def debug(self, event: str, /, **fields: object) -> None: ...
    def info(self, event: str, /, **fields: object) -> None: ...

    def warning(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))
        self.told.set()

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None: ...


class Counter:
    def __init__(self) -> None:
        self.counted: dict[str, int] = {}
        self.gauges: dict[str, float] = {}

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None:
        self.counted[name] = self.counted.get(name, 0) + amount

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        self.gauges[name] = value

    def observe(self, name: str, value: float, /, **labels: str) -> None: ...


async def test_a_loop_that_comes_in_time_has_no_lag() -> None:
    clock, metrics = ManualClock(), Counter()
    lag = LoopLag(Ambient(clock=clock, metrics=metrics))
    lag.start()
    for _ in range(8):
        await clock.advance(0.25)
    lag.stop()
    assert lag.lag_s == 0.0
    assert metrics.gauges["loop.lag_s"] == 0.0
    assert "loop.blocked" not in metrics.counted


async def test_who_holds_the_loop_is_named_once() -> None:
    log, metrics = Recorder(), Counter()
    lag = LoopLag(Ambient(log=log, metrics=metrics), period_s=0.02, blocked_s=0.05)
    lag.start()
    await asyncio.sleep(0.05)  # real time: the watching thread knows no other

    def a_job_that_blocks() -> None:
        deadline = time.monotonic() + 10
        while not log.told.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)  # the fault that is tested
        time.sleep(0.2)  # no second line for the same block

    a_job_that_blocks()
    await asyncio.sleep(0.1)  # the late beat
    lag.stop()
    assert len(log.lines) == 1
    event, fields = log.lines[0]
    assert event == "loop.blocked"
    assert "a_job_that_blocks test_looplag.py:" in str(fields["at"])
    assert metrics.counted["loop.blocked"] >= 1
    assert lag.lag_s > 0.0


async def test_it_can_be_stopped_before_it_started_and_twice() -> None:
    lag = LoopLag(Ambient())
    lag.stop()
    lag.start()
    lag.stop()
    lag.stop()


def test_the_place_of_a_thread_that_is_gone_is_empty() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert thread.ident is not None
    assert place_of(thread.ident) == ""
