"""W8: what a message, a hop and an idle actor cost.

Defends: at most 2.5 µs CPU a hop in a ring of 10,000 actors, at most 400 bytes of resident memory an idle actor.
The ring on pykka's own thread actors is the reference.

    python -m benchmarks w8

CPU figures are process time, each the best of a few rounds; the memory is measured in a process of its own, because
an allocator that has served other work does not give an honest difference.
"""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pykka

from benchmarks.figures import Figure, Outcome, Settings
from taskengine.actors import ActorRef, AsyncActor, Dispatcher

__all__ = ["run"]

RING = 10_000
HOPS = 300_000
THREAD_RING = 500
THREAD_HOPS = 20_000
TELLS = 200_000
IDLE = 1_000_000
ROUNDS = 5

MEMORY_SCRIPT = "import benchmarks.w8_dispatcher as w8; print(w8.idle_bytes())"


class Node(AsyncActor):
    """Passes a countdown on to the next actor of the ring."""

    def __init__(self, done: Callable[[], object]) -> None:
        self.done = done
        self.next: ActorRef[Any] | None = None

    def on_receive(self, message: int) -> None:
        if message and self.next is not None:
            self.next.tell(message - 1)
        else:
            self.done()


class ThreadNode(pykka.ThreadingActor):
    """The same on a thread of its own."""

    use_daemon_thread = True

    def __init__(self, done: Callable[[], object]) -> None:
        super().__init__()
        self.done = done
        self.next: pykka.ActorRef[Any] | None = None

    def on_receive(self, message: int) -> None:
        if message and self.next is not None:
            self.next.tell(message - 1)
        else:
            self.done()


class Sink(AsyncActor):
    """Takes everything and reports the last one."""

    def __init__(self, done: Callable[[], object]) -> None:
        self.done = done

    def on_receive(self, message: int) -> None:
        if not message:
            self.done()


class Idle(AsyncActor):
    """An actor with one attribute, as small as real ones get."""

    def __init__(self, number: int) -> None:
        self.number = number


async def tell_us() -> float:
    """CPU µs to send and handle one of many tells to one actor."""
    system, done = Dispatcher(), asyncio.Event()
    sink = system.start(Sink, done.set)
    best = float("inf")
    for _ in range(ROUNDS):
        done.clear()
        before = time.process_time()
        for number in range(TELLS - 1, -1, -1):
            sink.tell(number)
        await done.wait()
        best = min(best, time.process_time() - before)
    await system.stop()
    return best / TELLS * 1e6


async def hop_us() -> float:
    """CPU µs for a message to be handled and the next actor of the ring to be told."""
    system, done = Dispatcher(), asyncio.Event()
    refs = [system.start(Node, done.set) for _ in range(RING)]
    for ref, following in zip(refs, [*refs[1:], refs[0]], strict=True):
        assert ref.actor is not None
        ref.actor.next = following
    best = float("inf")
    for _ in range(ROUNDS):
        done.clear()
        before = time.process_time()
        refs[0].tell(HOPS)
        await done.wait()
        best = min(best, time.process_time() - before)
    await system.stop()
    return best / HOPS * 1e6


def thread_hop_us() -> float:
    """The same on thread actors; fewer of them, since each is a thread."""
    done = threading.Event()
    refs = [ThreadNode.start(done.set) for _ in range(THREAD_RING)]
    for ref, following in zip(refs, [*refs[1:], refs[0]], strict=True):
        ref.proxy().next = following
    before = time.process_time()
    refs[0].tell(THREAD_HOPS)
    done.wait()
    spent = time.process_time() - before
    for ref in refs:
        ref.stop()
    return spent / THREAD_HOPS * 1e6


async def life_us() -> float:
    """CPU µs to start an actor and stop it again, 20,000 being alive at once."""
    system = Dispatcher()
    before = time.process_time()
    for number in range(20_000):
        system.start(Idle, number)
    await system.stop()
    return (time.process_time() - before) / 20_000 * 1e6


def idle_bytes() -> float:
    """Growth of resident memory by one idle actor, in this process. Its attribute is not part of it."""

    async def grow() -> float:
        system = Dispatcher()
        numbers = list(range(IDLE))
        gc.collect()
        gc.disable()
        before = _resident_bytes()
        for number in numbers:
            system.start(Idle, number)
        return (_resident_bytes() - before) / IDLE

    return asyncio.run(grow())


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        pages = int(statm.read().split()[1])
    return pages * 4096


def _idle_bytes_elsewhere() -> float:
    done = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def run(settings: Settings) -> Outcome:
    """All figures of W8. The memory is that of a million actors whatever the settings, or of none when small."""
    rounds = range(settings.runs)
    figures = [
        Figure(name="tell", unit="µs CPU", samples=[asyncio.run(tell_us()) for _ in rounds]),
        Figure(
            name="hop in a ring of 10,000", unit="µs CPU", samples=[asyncio.run(hop_us()) for _ in rounds], at_most=2.5
        ),
        Figure(name="start and stop", unit="µs CPU", samples=[asyncio.run(life_us()) for _ in rounds]),
        Figure(name="hop of pykka's threads", unit="µs CPU", samples=[thread_hop_us() for _ in rounds]),
    ]
    if not settings.small:
        sizes = [_idle_bytes_elsewhere() for _ in rounds]
        figures.append(Figure(name="idle actor", unit="bytes", samples=sizes, at_most=400))
    return Outcome(workload="w8", figures=figures, facts={"ring": RING, "hops": HOPS, "idle actors": IDLE})
