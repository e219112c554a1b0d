"""What pykka does on a loop that we must not: each hazard of the design, one law each."""

import asyncio
import gc
import threading
import time

import pykka
import pytest

from taskengine.actors import ActorGone, AsyncActor, AsyncFuture, Dispatcher
from taskengine.errors import ActorDead


class Plain(AsyncActor):
    pass


async def stop_cost(alive: int) -> float:
    """Seconds of CPU to stop 500 actors, the last started first, while `alive` others live. Best of three."""
    system = Dispatcher()
    for _ in range(alive):
        system.start(Plain)
    best = float("inf")
    for _ in range(3):
        refs = [system.start(Plain) for _ in range(500)]
        before = time.process_time()
        for ref in reversed(refs[1:]):
            ref.stop()
        await refs[0].stop()
        best = min(best, time.process_time() - before)
    await system.stop()
    return best


async def test_cost_of_a_stop_does_not_grow_with_the_living():
    """pykka's list would make it ten times as much; noise makes it perhaps twice."""
    assert await stop_cost(20_000) < 4 * await stop_cost(2_000)


async def test_stopping_the_system_is_not_quadratic():
    async def cost(alive: int) -> float:
        system = Dispatcher()
        for _ in range(alive):
            system.start(Plain)
        before = time.process_time()
        await system.stop()
        return time.process_time() - before

    small = min([await cost(2_000) for _ in range(3)])
    assert await cost(20_000) < 40 * small


async def test_await_of_a_future_lets_the_loop_run(system, recorder):
    future: AsyncFuture[int] = AsyncFuture()
    ticks = []

    async def tick():
        for number in range(5):
            ticks.append(number)
            await asyncio.sleep(0)
        future.set(42)

    task = asyncio.create_task(tick())
    assert await future == 42
    assert ticks == [0, 1, 2, 3, 4]
    await task


@pytest.mark.parametrize("call", ["ask", "stop"])
async def test_blocking_call_on_the_loop_raises_before_the_message_is_sent(system, recorder, turns, call):
    events = []
    ref = system.start(recorder, events, key="a")
    with pytest.raises(RuntimeError, match="would block the event loop"):
        ref.ask("never", block=True) if call == "ask" else ref.stop(block=True)
    assert ref.depth == 0
    await turns()
    assert events == []
    assert ref.is_alive()


async def test_write_through_a_proxy_on_the_loop_raises_before_the_message_is_sent(system, recorder):
    ref = system.start(recorder, [])
    proxy = ref.proxy()
    with pytest.raises(RuntimeError, match="would block the event loop"):
        proxy.events = []
    assert ref.depth == 0


async def test_get_on_the_loop_raises_even_when_the_answer_is_there(system, recorder):
    proxy = system.start(recorder, ["one"]).proxy()
    future = proxy.events
    with pytest.raises(RuntimeError, match="would block the event loop"):
        future.get()
    assert await future == ["one"]
    with pytest.raises(RuntimeError, match="would block the event loop"):
        future.get()


def test_get_is_refused_on_the_loops_thread_while_the_loop_stands_still(recorder):
    with asyncio.Runner() as runner:

        async def make():
            system = Dispatcher()
            return system, system.start(recorder, [])

        system, ref = runner.run(make())
        with pytest.raises(RuntimeError, match="would block"):
            ref.ask("anything", block=True)
        runner.run(system.stop())


async def test_blocking_calls_work_from_another_thread(system, recorder):
    ref = system.start(recorder, [], key="a")

    def visit():
        proxy = ref.proxy()
        proxy.events = ["written"]
        return ref.ask(1, block=True), proxy.events.get(timeout=10), ref.stop(block=True)

    assert await asyncio.to_thread(visit) == (1, ["written", 1, "stop a"], True)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), BaseException("odd")])
async def test_base_exception_in_a_handler_ends_that_actor_only(system, recorder, turns, error):
    events = []
    victim = system.start(recorder, events, key="victim")
    others = [system.start(recorder, events, key="other") for _ in range(3)]
    victim.tell(error)
    await turns()
    assert not victim.is_alive()
    assert events == ["fail victim"]
    assert [await other.ask("alive") for other in others] == ["alive"] * 3


async def test_asker_of_a_cancelled_handler_gets_actor_dead_and_is_not_cancelled(system, recorder):
    ref = system.start(recorder, [], key="a")
    with pytest.raises(ActorGone) as caught:
        await ref.ask(asyncio.CancelledError())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert not ref.is_alive()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_interrupt_in_a_handler_stops_the_system_in_order(ambient, recorder, error):
    events, fatal, told = [], [], asyncio.Event()

    def on_fatal(exc):
        fatal.append(exc)
        told.set()

    system = Dispatcher(ambient, on_fatal=on_fatal)
    refs = [system.start(recorder, events, key=key) for key in "abc"]
    refs[1].tell(error)
    refs[0].tell(error)
    await told.wait()
    await system.stop()
    assert fatal == [error]
    assert events == ["fail b", "fail a", "stop c"]
    assert system.alive == 0


async def test_actor_that_nobody_holds_survives_the_collector(system, recorder, turns):
    events = []
    system.start(recorder, events, key="a").tell(lambda actor: system.spawn(later(actor.actor_ref)))
    gc.collect()

    async def later(ref):
        await asyncio.sleep(0)
        gc.collect()
        ref.tell("still here")

    await turns()
    assert events == ["still here"]


async def test_stopped_actor_is_freed_without_the_collector(system):
    freed = []

    class Mortal(AsyncActor):
        def __del__(self):
            freed.append(True)

    ref = system.start(Mortal)
    gc.disable()
    try:
        await ref.stop()
        assert freed == [True]
    finally:
        gc.enable()


async def test_ask_that_races_with_the_stop_is_answered(system, recorder):
    ref = system.start(recorder, [], key="a")
    early, stop, late = ref.ask("early"), ref.stop(), ref.ask("late")
    assert await early == "early"
    assert await stop is True
    with pytest.raises(ActorDead):
        await late
    with pytest.raises(pykka.ActorDeadError):
        await ref.ask("later")


async def test_asks_of_threads_that_race_with_the_stop_are_all_answered(system, recorder):
    ref = system.start(recorder, [], key="a")
    gate = threading.Barrier(3)

    def ask():
        gate.wait(10)
        answers = [ref.ask(number) for number in range(300)]
        return [outcome(answer) for answer in answers]

    def outcome(answer):
        try:
            return answer.get(timeout=10)
        except pykka.ActorDeadError:
            return "dead"

    def stop():
        gate.wait(10)
        return ref.stop(block=True, timeout=10)

    first, second, stopped = await asyncio.gather(*map(asyncio.to_thread, (ask, ask, stop)))
    assert stopped is True
    for answers in (first, second):
        alive = answers.index("dead") if "dead" in answers else 300
        assert answers == [*range(alive), *["dead"] * (300 - alive)]


async def test_asks_of_threads_that_race_with_the_end_of_the_system_are_all_answered(ambient, recorder):
    system = Dispatcher(ambient)
    ref = system.start(recorder, [], key="a")
    gate = threading.Barrier(2)

    def ask():
        gate.wait(10)
        for number in range(500):
            try:
                assert ref.ask(number).get(timeout=10) == number
            except pykka.ActorDeadError:
                return "dead"
        return "alive"

    asking = asyncio.create_task(asyncio.to_thread(ask))
    await asyncio.to_thread(gate.wait, 10)
    await system.stop()
    assert await asking == "dead"


async def test_tells_behind_and_after_the_stop_are_dead_letters(system, recorder, journal):
    events = []
    ref = system.start(recorder, events, key="a")
    stop = ref.stop()
    ref.tell("behind")
    await stop
    ref.tell("after")
    await asyncio.to_thread(ref.tell, "from a thread")
    await asyncio.sleep(0)
    assert [letter.message for letter in system.dead_letters.last()] == ["behind", "after", "from a thread"]
    assert journal.counts["actors.dead_letters"] == 3
    assert events == ["stop a"]
