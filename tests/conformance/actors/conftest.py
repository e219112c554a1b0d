"""The two actor systems behind one face: pykka's threads, and ours on a loop in a thread of its own."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pykka
import pytest

from taskengine.actors import AsyncActor, Dispatcher, using


class ActorSystem(Protocol):
    base: type[pykka.Actor]

    def start(self, actor_class: type[Any], *args: Any, **kwargs: Any) -> Any: ...


class Threads:
    base = pykka.ThreadingActor

    def start(self, actor_class: type[Any], *args: Any, **kwargs: Any) -> Any:
        return actor_class.start(*args, **kwargs)

    def close(self) -> None:
        pykka.ActorRegistry.stop_all(timeout=10)


class Loop:
    base = AsyncActor

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.dispatcher = self._call(self._make())

    def start(self, actor_class: type[Any], *args: Any, **kwargs: Any) -> Any:
        with using(self.dispatcher):
            return actor_class.start(*args, **kwargs)

    def close(self) -> None:
        self._call(self.dispatcher.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._runner.close()

    def settle(self) -> None:
        """Wait until the loop has seen what this thread has sent so far."""
        reached = threading.Event()
        self._loop.call_soon_threadsafe(reached.set)
        assert reached.wait(10)

    def _call(self, coro: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(10)

    async def _make(self) -> Dispatcher:
        return Dispatcher()


@pytest.fixture(params=[Threads, Loop], ids=["threads", "loop"])
def system(request: pytest.FixtureRequest) -> Iterator[ActorSystem]:
    logging.getLogger("taskengine").setLevel(logging.CRITICAL)
    made = request.param()
    yield made
    made.close()
    logging.getLogger("taskengine").setLevel(logging.NOTSET)


@pytest.fixture
def recorder(system: ActorSystem) -> Callable[..., Any]:
    """Starts an actor that writes down everything that happens to it, in `events`."""

    class Recorder(system.base):  # type: ignore[name-defined]
        def __init__(self, events: list[Any], fail_in: str = "") -> None:
            super().__init__()
            self.events, self._fail_in = events, fail_in
            self.number = 1

        def _happens(self, what: Any) -> None:
            self.events.append(what)
            if what == self._fail_in:
                raise RuntimeError(what)

        def on_start(self) -> None:
            self._happens("start")

        def on_stop(self) -> None:
            self._happens("stop")

        def on_failure(self, kind: Any, value: Any, trace: Any) -> None:
            self.events.append((kind, str(value), trace is not None))

        def on_receive(self, message: Any) -> Any:
            if isinstance(message, threading.Event):
                return message.wait(10)
            if isinstance(message, Exception):
                raise message
            self._happens(message)
            return ("answer", message)

        def double(self, number: int) -> int:
            return 2 * number

        def fail(self, text: str) -> None:
            raise ValueError(text)

        def end(self) -> None:
            self.stop()

    return lambda *args, **kwargs: system.start(Recorder, *args, **kwargs)
