"""Turns: bursts, slices, fairness, idling, leaving, other threads."""

import asyncio
import threading

import pytest

from taskengine.actors import AsyncActor, Dispatcher, Limits, current_dispatcher, using
from taskengine.errors import Unavailable


class Flood(AsyncActor):
    """Tells itself for ever."""

    def __init__(self):
        self.count = 0

    def on_start(self):
        self.actor_ref.tell("again")

    def on_receive(self, message):
        self.count += 1
        self.actor_ref.tell(message)


class Idler(AsyncActor):
    def __init__(self):
        self.burst, self.bursts = [], []

    def on_receive(self, message):
        self.burst.append(message)

    def on_idle(self):
        self.bursts.append(self.burst)
        self.burst = []


@pytest.fixture
async def slow_system(ambient):
    """A dispatcher whose slice never ends by time."""
    made = Dispatcher(ambient, limits=Limits(burst=4, messages=8), timer=lambda: 0.0)
    yield made
    await made.stop()


async def test_flooding_actor_leaves_the_loop_its_turn(system):
    flood = system.start(Flood)
    turns = [await asyncio.sleep(0, flood.actor.count) for _ in range(10)]
    assert turns == sorted(turns)
    assert flood.is_alive()


async def test_slice_bounds_how_long_a_callback_waits(ambient):
    """Each reading of the timer is a tenth of the slice, so no turn takes more than about ten messages."""
    ticks = iter(range(10**9))
    system = Dispatcher(ambient, limits=Limits(slice_s=10.0), timer=lambda: float(next(ticks)))
    flood = system.start(Flood)
    await asyncio.sleep(0)
    before = flood.actor.count
    await asyncio.sleep(0)
    assert 0 < flood.actor.count - before <= 11
    await system.stop()


async def test_flooding_actor_does_not_starve_its_neighbour(slow_system):
    flood, idler = slow_system.start(Flood), slow_system.start(Idler)
    idler.tell("hello")
    await asyncio.sleep(0)
    assert idler.actor.bursts == [["hello"]]
    assert flood.actor.count > 0


async def test_number_of_messages_bounds_a_turn_when_the_timer_stands_still(slow_system):
    flood = slow_system.start(Flood)
    await asyncio.sleep(0)
    before = flood.actor.count
    await asyncio.sleep(0)
    assert flood.actor.count - before == 8


async def test_burst_is_bounded_and_ends_with_one_on_idle(slow_system, turns):
    idler = slow_system.start(Idler)
    for number in range(10):
        idler.tell(number)
    await turns()
    assert idler.actor.bursts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_slice_ends_a_burst_too(ambient, turns):
    ticks = iter(range(10**9))
    system = Dispatcher(ambient, limits=Limits(slice_s=3.0), timer=lambda: float(next(ticks)))
    idler = system.start(Idler)
    for number in range(5):
        idler.tell(number)
    await turns()
    assert idler.actor.bursts == [[0, 1, 2], [3, 4]]
    await system.stop()


async def test_on_idle_does_not_follow_on_start_alone(system, turns):
    class Starter(Idler):
        def on_start(self):
            pass

    starter = system.start(Starter)
    await turns()
    assert starter.actor.bursts == []


async def test_failure_in_on_idle_ends_the_actor(system, turns, journal):
    class Broken(Idler):
        def on_idle(self):
            raise KeyError("idle")

    ref = system.start(Broken)
    ref.tell(1)
    await turns()
    assert not ref.is_alive()
    assert [event for event, _ in journal.errors] == ["actor.failed"]


async def test_turn_is_scheduled_once_for_many_actors(system, turns, monkeypatch):
    idlers = [system.start(Idler) for _ in range(100)]
    loop = asyncio.get_running_loop()
    calls, call_soon = [], loop.call_soon
    monkeypatch.setattr(loop, "call_soon", lambda *args, **kwargs: calls.append(args) or call_soon(*args, **kwargs))
    for idler in idlers:
        idler.tell(1)
    assert len(calls) == 1


async def test_actor_that_overran_its_slice_is_named(ambient, journal, turns):
    times = iter([0.0, 5.0] + [5.0] * 100)
    system = Dispatcher(ambient, timer=lambda: next(times))
    system.start(Idler).tell(1)
    await turns()
    assert journal.warnings == ["actor.slow_burst"]
    assert journal.counts["actors.slow_bursts"] == 1
    await system.stop()


async def test_leaving_actor_ends_with_its_burst(system, recorder, turns):
    events = []
    ref = system.start(recorder, events, key="a")
    ref.tell(lambda actor: events.append(actor.leave()))
    await turns(2)
    assert events == [True, "stop a"]
    assert not ref.is_alive()


async def test_actor_with_waiting_messages_does_not_leave(system, recorder, turns):
    events = []
    ref = system.start(recorder, events, key="a")
    ref.tell(lambda actor: events.append(actor.leave()))
    ref.tell("waiting")
    await turns(2)
    assert events == [False, "waiting"]
    assert ref.is_alive()


async def test_nothing_slips_in_between_leaving_and_the_end(system, recorder, turns):
    """Another actor in the same turn tells it something: in the mailbox it would be lost behind a stop."""
    events = []
    leaver = system.start(recorder, events, key="a")
    other = system.start(recorder, events, key="b")
    leaver.tell(lambda actor: events.append(actor.leave()))
    other.tell(lambda _actor: events.append(leaver.is_alive()))
    await turns(2)
    assert events == [True, "stop a", False]


async def test_dead_letters_are_counted_and_the_last_ones_kept(system, recorder, turns, journal):
    ref = system.start(recorder, [], key="a")
    await ref.stop()
    for number in range(150):
        ref.tell(number)
    letters = system.dead_letters.last()
    assert len(system.dead_letters) == journal.counts["actors.dead_letters"] == 150
    assert [letter.message for letter in letters] == list(range(50, 150))
    assert (letters[0].actor_class, letters[0].key) == ("Recorder", "a")


async def test_snapshot_shows_the_tree(system, recorder, turns):
    top = system.start(recorder, [], key="top")
    leaf = system.start(recorder, [], parent=top)
    system.spawn(asyncio.Event().wait(), leaf)
    leaf.tell("one")
    leaf.tell("two")
    lines = [(line.name, line.actor_class, line.parent, line.depth, line.tasks) for line in system.snapshot()]
    assert lines == [
        ("top", "Recorder", None, 0, 0),
        (leaf.actor_urn, "Recorder", "top", 2, 1),
    ]


async def test_messages_of_a_thread_arrive_in_order_with_one_wake_up(system, recorder, turns, monkeypatch):
    events, calls = [], []
    ref = system.start(recorder, events, key="a")
    loop = asyncio.get_running_loop()
    wake_up = loop.call_soon_threadsafe
    monkeypatch.setattr(
        loop, "call_soon_threadsafe", lambda *args, **kwargs: calls.append(args) or wake_up(*args, **kwargs)
    )

    def send():
        for number in range(1000):
            ref.tell(number)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()  # the loop stands still, so it is woken for the first message only
    await turns()
    assert events == list(range(1000))
    assert len(calls) == 1


async def test_many_threads_lose_nothing(system, recorder):
    events = []
    ref = system.start(recorder, events, key="a")

    def send(base):
        for number in range(2000):
            ref.tell(base + number)

    await asyncio.gather(*(asyncio.to_thread(send, base) for base in (0, 10_000, 20_000)))
    await ref.ask("last")
    assert events.pop() == "last"
    for base in (0, 10_000, 20_000):
        own = [number for number in events if base <= number < base + 10_000]
        assert own == list(range(base, base + 2000))


async def test_thread_starts_actors_at_the_top_only(system, recorder):
    top = system.start(recorder, [])

    def start():
        with pytest.raises(RuntimeError, match="another thread"):
            system.start(recorder, [], parent=top)
        with using(system):
            return recorder.start([])

    ref = await asyncio.to_thread(start)
    assert await ref.ask("hello") == "hello"
    assert system.alive == 2


async def test_constructor_that_raises_in_a_thread_leaves_nothing(system, recorder, turns):
    def start():
        with pytest.raises(TypeError):
            system.start(recorder)

    await asyncio.to_thread(start)
    await turns()
    assert system.alive == 0


async def test_constructor_that_raises_takes_back_what_it_had_begun(system, recorder, turns, journal):
    events = []

    class Broken(AsyncActor):
        def __init__(self):
            system.start(recorder, events, parent=self.actor_ref, key="child")
            self.actor_ref.tell("never handled")
            raise KeyError("broken")

    with pytest.raises(KeyError):
        system.start(Broken)
    await turns()
    assert events == ["stop child"]
    assert system.alive == 0
    assert len(system.dead_letters) == 1


async def test_handlers_start_actors_on_their_own_dispatcher(system, recorder):
    ref = system.start(recorder, [])
    assert await ref.ask(lambda _actor: current_dispatcher()) is system
    child = await ref.ask(lambda _actor: recorder.start([]))
    assert child.dispatcher is system


async def test_there_is_no_dispatcher_outside(system, recorder):
    with pytest.raises(LookupError):
        recorder.start([])


async def test_two_systems_on_one_loop_do_not_know_each_other(system, ambient, recorder):
    other = Dispatcher(ambient)
    ref, stranger = system.start(recorder, []), other.start(recorder, [])
    await other.stop()
    assert not stranger.is_alive()
    assert await ref.ask("here") == "here"


def test_dispatcher_without_a_loop_refuses_actors(recorder):
    with pytest.raises(Unavailable):
        Dispatcher().start(recorder, [])


@pytest.mark.parametrize("name", ["on_receive", "on_start", "on_stop", "on_failure", "on_idle", "on_child_ended"])
def test_coroutine_handlers_are_refused_when_the_class_is_made(name):
    async def handler(self, *args):
        pass

    with pytest.raises(TypeError, match=f"Sleepy.{name} must be a plain def"):
        type("Sleepy", (AsyncActor,), {name: handler, "__qualname__": "Sleepy"})
