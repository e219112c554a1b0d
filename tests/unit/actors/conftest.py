"""A dispatcher on the test's loop with a clock, log and metrics to look at; nothing may be left at the end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from taskengine.actors import AsyncActor, Dispatcher
from taskengine.ambient import Ambient
from taskengine.clock import ManualClock


class Journal:
    """A log and metrics in memory."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, BaseException | None]] = []
        self.warnings: list[str] = []
        self.counts: Counter[str] = Counter()

    def debug(self, event: str, /, **fields: object) -> None: ...

    def info(self, event: str, /, **fields: object) -> None: ...

    def warning(self, event: str, /, **fields: object) -> None:
        self.warnings.append(event)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self.errors.append((event, exc))

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    def gauge(self, name: str, value: float) -> None: ...

    def observe(self, name: str, value: float) -> None: ...


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ambient(clock: ManualClock, journal: Journal) -> Ambient:
    return Ambient(clock=clock, log=journal, metrics=journal)


@pytest.fixture
async def system(ambient: Ambient) -> AsyncIterator[Dispatcher]:
    """Only the test's own task may be left when it is stopped."""
    made = Dispatcher(ambient)
    yield made
    async with asyncio.timeout(10):
        await made.stop()
    assert made.alive == 0
    assert made.snapshot() == []


@pytest.fixture
def recorder() -> type[AsyncActor]:
    """An actor class that writes down what happens to it; messages that are exceptions are raised."""

    class Recorder(AsyncActor):
        def __init__(self, events: list[Any]) -> None:
            self.events = events

        def on_receive(self, message: Any) -> Any:
            if isinstance(message, BaseException):
                raise message
            if callable(message):
                return message(self)
            self.events.append(message)
            return message

        def on_stop(self) -> None:
            self.events.append(f"stop {self.actor_ref.key}")

        def on_failure(self, kind: Any, value: Any, trace: Any) -> None:
            self.events.append(f"fail {self.actor_ref.key}")

    return Recorder


@pytest.fixture
def turns() -> Callable[[], Any]:
    """Let the loop go round until what was sent has been handled."""

    async def settle(count: int = 20) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    return settle
