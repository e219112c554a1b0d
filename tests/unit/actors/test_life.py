"""Beginnings and ends: the order of a stop, tasks and their owners, starting and stopping in every order."""

import asyncio
import inspect
import threading
from asyncio import CancelledError, Event

import pytest

from taskengine.actors import ActorGone, AsyncActor, Dispatcher
from taskengine.errors import Unavailable


async def hang(events, name, started=None):
    try:
        await Event().wait()
    finally:
        await asyncio.sleep(0)  # cleaning up takes a turn, so that who does not wait is found out
        events.append(f"{name} cleaned up")


async def test_stop_before_start_is_over_at_once_and_final(ambient, recorder):
    system = Dispatcher(ambient)
    await system.stop()
    with pytest.raises(Unavailable):
        system.start(recorder, [])
    with pytest.raises(Unavailable):
        system.spawn(hang([], "never"))


def test_stop_before_there_was_a_loop_is_final(ambient, recorder):
    system = Dispatcher(ambient)
    system.request_stop()

    async def use():
        await system.stop()
        with pytest.raises(Unavailable):
            system.start(recorder, [])
        await system.stop()

    asyncio.run(use())


async def test_stopping_twice_and_at_the_same_time_is_the_same_stop(ambient, recorder):
    events = []
    system = Dispatcher(ambient)
    system.start(recorder, events, key="a")
    await asyncio.gather(system.stop(), system.stop())
    await system.stop()
    assert events == ["stop a"]


async def test_cancelled_wait_does_not_cancel_the_stop(ambient, recorder, turns):
    events = []
    system = Dispatcher(ambient)
    system.spawn(hang(events, "task"))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(system.stop())
    await asyncio.sleep(0)
    waiting.cancel()
    await turns()
    assert waiting.cancelled()
    assert events == ["task cleaned up"]
    await system.stop()


async def test_stress_of_starts_and_stops_leaves_nothing(ambient, recorder):
    for number in range(50):
        system = Dispatcher(ambient)
        refs = [system.start(recorder, [], key=str(child)) for child in range(number % 7)]
        for ref in refs[::2]:
            system.spawn(hang([], "task"), ref)
            system.start(recorder, [], parent=ref)
        stops = [ref.stop() for ref in refs[1::2]]
        if number % 3:
            await asyncio.sleep(0)
        await system.stop()
        assert [await stop for stop in stops] == [True] * len(stops)
        assert system.alive == 0
    assert len(asyncio.all_tasks()) == 1


async def test_top_level_actors_stop_youngest_first(ambient, recorder):
    events = []
    system = Dispatcher(ambient)
    for key in "abc":
        system.spawn(hang(events, key), system.start(recorder, events, key=key))
    await asyncio.sleep(0)
    await system.stop()
    assert events == ["c cleaned up", "stop c", "b cleaned up", "stop b", "a cleaned up", "stop a"]


async def test_messages_sent_before_the_stop_are_handled(ambient, recorder):
    events = []
    system = Dispatcher(ambient)
    ref = system.start(recorder, events, key="a")
    for number in range(200):
        ref.tell(number)
    await system.stop()
    assert events == [*range(200), "stop a"]


async def test_parent_stops_after_its_children_and_tasks(system, recorder, turns):
    events = []
    top = system.start(recorder, events, key="top")
    for key in ("first", "second"):
        child = system.start(recorder, events, parent=top, key=key)
        system.start(recorder, events, parent=child, key=f"{key}'s")
    system.spawn(hang(events, "task"), top)
    await turns()
    assert await top.stop() is True
    assert events[-2:] == ["task cleaned up", "stop top"]
    assert set(events[:-2]) == {"stop first", "stop second", "stop first's", "stop second's"}
    assert events.index("stop first's") < events.index("stop first")
    assert events.index("stop second") < events.index("stop first")


async def test_ordered_stop_waits_for_each_child(system, recorder, turns):
    events = []

    class Ordered(recorder):
        ordered_stop = True

    top = system.start(Ordered, events, key="top")
    for key in "abc":
        system.spawn(hang(events, key), system.start(recorder, events, parent=top, key=key))
    await turns()
    await top.stop()
    assert events == [
        "c cleaned up", "stop c", "b cleaned up", "stop b", "a cleaned up", "stop a", "stop top",
    ]  # fmt: skip


async def test_ordered_stop_gets_past_children_that_end_by_themselves(system, recorder, turns):
    events = []

    class Ordered(recorder):
        ordered_stop = True

    top = system.start(Ordered, events, key="top")
    children = [system.start(recorder, events, parent=top, key=key) for key in "abc"]
    system.spawn(hang(events, "c"), children[2])
    await asyncio.sleep(0)
    stop = top.stop()
    children[1].tell(ValueError("meanwhile"))
    await stop
    assert events == ["fail b", "c cleaned up", "stop c", "stop a", "stop top"]


async def test_what_a_thread_sends_at_the_very_end_is_answered(ambient, recorder):
    """The system is gone in the same turn, so nobody will look at the queue of the threads again."""
    system, answers = Dispatcher(ambient), []

    class Last(recorder):
        def on_stop(self):
            ref = self.actor_ref

            def send():
                answers.append(ref.ask("late"))
                answers.append(ref.stop())
                ref.tell("late")

            thread = threading.Thread(target=send)
            thread.start()
            thread.join()

    system.start(Last, [])
    await system.stop()
    assert [answer.done() for answer in answers] == [True, True]
    with pytest.raises(ActorGone):
        await answers[0]
    assert await answers[1] is False
    assert len(system.dead_letters) == 1


async def test_thread_that_starts_an_actor_at_the_very_end_gets_a_dead_one(ambient, recorder):
    system, refs = Dispatcher(ambient), []
    building, built = threading.Event(), threading.Event()

    class Slow(recorder):
        def __init__(self):
            refs.append(self.actor_ref)
            building.set()
            built.wait(10)

    starting = asyncio.create_task(asyncio.to_thread(system.start, Slow))
    await asyncio.to_thread(building.wait, 10)
    await system.stop()
    built.set()
    assert not (await starting).is_alive()
    with pytest.raises(ActorGone):
        await refs[0].ask("anybody?")


async def test_actor_that_a_thread_builds_during_the_stop_does_not_begin(ambient, recorder, turns):
    system, events, release = Dispatcher(ambient), [], asyncio.Event()
    building, built = threading.Event(), threading.Event()

    class Slow(recorder):
        def __init__(self):
            building.set()
            built.wait(10)

        def on_start(self):
            events.append("begun")

    async def cleanup():
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    system.spawn(cleanup())
    starting = asyncio.create_task(asyncio.to_thread(system.start, Slow))
    await asyncio.to_thread(building.wait, 10)
    stopping = asyncio.create_task(system.stop())
    await turns()
    built.set()
    ref = await starting
    await turns()
    assert not ref.is_alive()
    release.set()
    async with asyncio.timeout(10):
        await stopping
    assert events == []


async def test_task_is_cancelled_once_and_may_take_its_time(system, recorder, turns):
    events = []

    async def long_cleanup():
        try:
            await asyncio.Event().wait()
        finally:
            await turns(5)
            events.append("long cleanup")

    ref = system.start(recorder, events, key="owner")
    system.spawn(long_cleanup(), ref)
    system.spawn(hang(events, "short"), ref)
    await asyncio.sleep(0)
    await ref.stop()
    assert events == ["short cleaned up", "long cleanup", "stop owner"]


async def test_messages_to_a_stopping_parent_wait_and_become_dead_letters(system, recorder, turns):
    events = []
    top = system.start(recorder, events, key="top")
    system.spawn(hang(events, "task"), top)
    await asyncio.sleep(0)
    stop = top.stop()
    await asyncio.sleep(0)
    assert top.is_alive()
    top.tell("late")
    late, second = top.ask("late"), top.stop()
    with pytest.raises(ActorGone):
        system.start(recorder, events, parent=top)
    assert await stop is True
    assert await second is True
    with pytest.raises(ActorGone):
        await late
    assert len(system.dead_letters) == 1
    assert events == ["task cleaned up", "stop top"]


async def test_failed_actor_takes_its_children_with_it(system, recorder, turns):
    events = []
    top = system.start(recorder, events, key="top")
    system.start(recorder, events, parent=top, key="child")
    system.spawn(hang(events, "task"), top)
    await asyncio.sleep(0)
    top.tell(ValueError("broken"))
    await turns()
    assert events == ["fail top", "stop child", "task cleaned up"]
    assert system.alive == 0


async def test_parent_hears_of_a_childs_end_when_everything_of_it_is_gone(system, recorder, turns):
    events = []

    class Parent(recorder):
        def on_child_ended(self, ended):
            events.append((ended.child, ended.error))

    top = system.start(Parent, events, key="top")
    orderly = system.start(recorder, events, parent=top, key="orderly")
    broken = system.start(recorder, events, parent=top, key="broken")
    system.spawn(hang(events, "task"), broken)
    await asyncio.sleep(0)
    error = ValueError("broken")
    await orderly.stop()
    broken.tell(error)
    await turns()
    assert events == [
        "stop orderly", ("orderly", None), "fail broken", "task cleaned up", ("broken", error),
    ]  # fmt: skip


async def test_child_without_a_key_is_named_by_its_urn(system, recorder, turns):
    heard = []

    class Parent(AsyncActor):
        def on_child_ended(self, ended):
            heard.append(ended.child)

    child = system.start(recorder, [], parent=system.start(Parent))
    await child.stop()
    await turns()
    assert heard == [child.actor_urn]


class TestSpawn:
    async def test_result_comes_to_on_done_once(self, system, turns):
        outcomes = []

        async def work():
            return 42

        spawned = system.spawn(work(), on_done=outcomes.append)
        assert not spawned.done
        await turns()
        spawned.cancel()
        await turns()
        assert outcomes == [42]
        assert spawned.done

    @pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), GeneratorExit(), BaseException("odd")])
    async def test_exception_comes_to_on_done_and_nowhere_else(self, system, turns, journal, error):
        outcomes = []

        async def work():
            raise error

        system.spawn(work(), on_done=outcomes.append)
        await turns()
        assert outcomes == [error]
        assert journal.errors == []

    async def test_exception_that_nobody_listens_to_is_logged(self, system, turns, journal):
        error = ValueError("no")

        async def work():
            raise error

        system.spawn(work())
        await turns()
        assert journal.errors == [("actor.task_failed", error)]

    async def test_cancellation_is_no_error(self, system, turns, journal):
        outcomes, events = [], []
        spawned = system.spawn(hang(events, "task"), on_done=outcomes.append)
        unheard = system.spawn(hang(events, "unheard"))
        await asyncio.sleep(0)
        spawned.cancel()
        unheard.cancel()
        await turns()
        assert [type(outcome) for outcome in outcomes] == [CancelledError]
        assert events == ["task cleaned up", "unheard cleaned up"]
        assert journal.errors == []

    async def test_cancelled_before_its_first_step_it_never_runs(self, system, turns):
        outcomes, events = [], []
        coro = hang(events, "task")
        system.spawn(coro, on_done=outcomes.append).cancel()
        await turns()
        assert [type(outcome) for outcome in outcomes] == [CancelledError]
        assert events == []
        assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED

    async def test_owner_waits_for_its_task_and_on_done_comes_first(self, system, recorder):
        events = []
        ref = system.start(recorder, events, key="owner")
        system.spawn(hang(events, "task"), ref, lambda outcome: events.append(type(outcome)))
        await asyncio.sleep(0)
        await ref.stop()
        assert events == ["task cleaned up", CancelledError, "stop owner"]

    async def test_system_waits_for_tasks_without_an_owner(self, ambient):
        events = []
        system = Dispatcher(ambient)
        system.spawn(hang(events, "task"))
        await asyncio.sleep(0)
        await system.stop()
        assert events == ["task cleaned up"]

    async def test_tasks_of_a_stopped_owner_are_refused(self, system, recorder):
        ref = system.start(recorder, [])
        await ref.stop()
        with pytest.raises(ActorGone):
            system.spawn(hang([], "never"), ref)

    async def test_tasks_are_refused_on_other_threads(self, system):
        with pytest.raises(RuntimeError, match="loop's thread"):
            await asyncio.to_thread(lambda: system.spawn(hang([], "never")))

    @pytest.mark.parametrize("error", [ValueError("no"), CancelledError()])
    async def test_failing_on_done_is_logged_and_holds_nobody_up(self, system, recorder, journal, error):
        def on_done(outcome):
            raise error

        ref = system.start(recorder, [])
        system.spawn(hang([], "task"), ref, on_done)
        await asyncio.sleep(0)
        assert await ref.stop() is True
        assert journal.errors == [("actor.on_done_failed", error)]

    async def test_interrupt_in_a_task_stops_the_system(self, ambient, turns):
        fatal, outcomes = [], []
        system = Dispatcher(ambient, on_fatal=fatal.append)
        error = KeyboardInterrupt()

        async def work():
            raise error

        system.spawn(work(), on_done=outcomes.append)
        await turns()
        assert fatal == outcomes == [error]
        with pytest.raises(Unavailable):
            system.spawn(work())

    async def test_abandoned_task_holds_nobody_up_and_still_reports(self, system, recorder, journal, turns):
        outcomes, release = [], Event()

        async def stubborn():
            while not release.is_set():
                try:
                    await release.wait()
                except CancelledError:
                    continue
            return "late"

        ref = system.start(recorder, [])
        spawned = system.spawn(stubborn(), ref, outcomes.append)
        await asyncio.sleep(0)
        stop = ref.stop()
        await turns()
        assert not stop.done()
        spawned.abandon()
        assert await stop is True
        assert journal.counts["actors.abandoned"] == 1
        release.set()
        await turns()
        assert outcomes == ["late"]


async def test_an_actor_started_now_has_begun_when_the_call_returns_and_its_failure_is_its_own() -> None:
    began: list[str] = []

    class Child(AsyncActor):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_start(self) -> None:
            began.append(self.name)
            if self.name == "坏":
                raise RuntimeError("on_start")

    class Parent(AsyncActor):
        def on_receive(self, message: str) -> bool:
            ref = self.dispatcher.start_now(Child, message, parent=self.actor_ref)
            return began[-1] == message and ref.is_alive()

    system = Dispatcher()
    parent = system.start(Parent)
    assert await parent.ask("好") is True
    assert await parent.ask("坏") is False
    assert parent.is_alive()
    await system.stop()
    assert system.alive == 0
