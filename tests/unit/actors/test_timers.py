"""Timers on a manual clock: order, jumps of the wall clock, cancelling; and against a sorted list."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.actors import Timers
from taskengine.clock import ManualClock, Micros, seconds
from taskengine.errors import Unavailable


@pytest.fixture
def timers(clock, journal):
    made = Timers(clock, journal)
    yield made
    made.close()


@pytest.fixture
def fired():
    return []


def after(clock, span_s):
    return Micros(clock.now_us() + seconds(span_s))


def test_timer_fires_at_its_time_and_once(timers, clock, fired):
    timer = timers.at(after(clock, 10), lambda: fired.append(clock.monotonic()))
    clock.tick(9.999999)
    assert fired == []
    assert timer.pending
    clock.tick(0.000001)
    assert fired == [10.0]
    assert not timer.pending
    clock.tick(100)
    assert fired == [10.0]
    assert len(timers) == 0


def test_past_timer_fires_soon_and_not_inside_at(timers, clock, fired):
    timers.at(Micros(5), lambda: fired.append("past"))
    assert fired == []
    clock.tick(0)
    assert fired == ["past"]


def test_equal_times_fire_in_the_order_of_their_calls(timers, clock, fired):
    due = after(clock, 1)
    for number in range(1000):
        timers.at(due, lambda number=number: fired.append(number))
    clock.tick(1)
    assert fired == list(range(1000))


def test_earlier_timer_fires_first_whenever_it_was_set(timers, clock, fired):
    for span in (30, 10, 20):
        timers.at(after(clock, span), lambda span=span: fired.append((span, clock.monotonic())))
    clock.tick(40)
    assert fired == [(10, 10.0), (20, 20.0), (30, 30.0)]


def test_wall_clock_that_jumps_forward_is_followed_within_a_minute(timers, clock, fired):
    timers.at(after(clock, 3600), lambda: fired.append(clock.monotonic()))
    clock.tick(30)
    clock.set_wall(clock.now_us() + seconds(7200))
    clock.tick(60)
    assert fired == [60.0]


def test_timer_that_is_set_after_a_jump_does_not_wait_for_the_next_look(timers, clock, fired):
    timers.at(after(clock, 36_000), lambda: fired.append("far"))
    clock.set_wall(clock.now_us() + seconds(7200))
    timers.at(after(clock, 1), lambda: fired.append(clock.monotonic()))
    clock.tick(2)
    assert fired == [1.0]


def test_wall_clock_that_jumps_back_does_not_fire_early(timers, clock, fired):
    timers.at(after(clock, 100), lambda: fired.append(clock.monotonic()))
    clock.tick(50)
    clock.set_wall(clock.now_us() - seconds(1000))
    clock.tick(1049)
    assert fired == []
    clock.tick(1)
    assert fired == [1100.0]


def test_only_one_call_of_the_clock_is_armed(timers, clock):
    for span in range(100, 0, -1):
        timers.at(after(clock, span), lambda: None)
    assert clock.next_timer() == 1.0
    clock.tick(100)
    assert clock.next_timer() is None


def test_cancelled_timer_does_not_fire_and_lets_go_of_its_callback(timers, clock, fired):
    timer = timers.at(after(clock, 1), lambda: fired.append("no"))
    timer.cancel()
    timer.cancel()
    assert len(timers) == 0
    assert timer.callback is None
    clock.tick(2)
    assert fired == []
    assert timers.next_due() is None


def test_cancelling_after_it_fired_changes_nothing(timers, clock):
    timer = timers.at(after(clock, 1), lambda: None)
    timers.at(after(clock, 9), lambda: None)
    clock.tick(2)
    timer.cancel()
    assert len(timers) == 1


def test_callback_may_set_and_cancel_timers(timers, clock, fired):
    second = timers.at(after(clock, 2), lambda: fired.append("second"))

    def first():
        second.cancel()
        timers.at(after(clock, 5), lambda: fired.append(clock.monotonic()))

    timers.at(after(clock, 1), first)
    clock.tick(10)
    assert fired == [6.0]


def test_callback_that_raises_is_logged_and_stops_nobody(timers, clock, fired, journal):
    error = KeyError("broken")

    def broken():
        raise error

    timers.at(after(clock, 1), broken)
    timers.at(after(clock, 1), lambda: fired.append("next"))
    clock.tick(1)
    assert fired == ["next"]
    assert journal.errors == [("timer.failed", error)]


def test_loop_gets_its_turn_between_batches(timers, clock):
    """A burst of due timers re-arms the clock instead of running to the end."""
    turns = []
    due = after(clock, 1)
    for _ in range(1000):
        timers.at(due, lambda: turns.append(clock.next_timer()))
    call_at, calls = clock.call_at, []
    clock.call_at = lambda when_s, callback: calls.append(when_s) or call_at(when_s, callback)
    clock.tick(1)
    assert len(turns) == 1000
    assert calls == [1.0] * 3


def test_closed_timers_never_fire_and_take_no_more(timers, clock, fired):
    timer = timers.at(after(clock, 1), lambda: fired.append("no"))
    timers.close()
    timers.close()
    timer.cancel()
    clock.tick(10)
    assert fired == []
    assert clock.next_timer() is None
    assert len(timers) == 0
    with pytest.raises(Unavailable):
        timers.at(after(clock, 1), lambda: None)


async def test_timer_can_tell_an_actor(system, timers, clock, recorder, turns):
    events = []
    ref = system.start(recorder, events, key="a")
    timers.tell_at(after(clock, 5), ref, "due")
    await clock.advance(5)
    assert events == ["due"]


def test_memory_of_cancelled_timers_is_bounded(timers, clock):
    """A deadline per task that is hardly ever reached: set and cancelled 200,000 times."""
    due = after(clock, 86_400)
    kept = [timers.at(due, lambda: None) for _ in range(100)]
    tracemalloc.start()
    try:
        for number in range(200_000):
            timers.at(Micros(due + number), lambda: None).cancel()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 200_000
    assert len(timers) == 100
    assert all(timer.pending for timer in kept)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("at"), st.integers(-50, 500)),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
        st.tuples(st.just("tick"), st.integers(0, 120)),
        st.tuples(st.just("wall"), st.integers(-300, 300)),
    ),
    max_size=60,
)


@given(actions)
def test_timers_agree_with_a_sorted_list(script):
    """After a jump of the wall clock a minute passes before the two are compared: that is the promise."""
    clock = ManualClock()
    timers = Timers(clock)
    start, fired, model, handles = clock.now_us(), [], [], []
    for verb, number in script:
        if verb == "at":
            due, name = Micros(start + seconds(number)), len(handles)
            handles.append(timers.at(due, lambda name=name: fired.append(name)))
            model.append((due, name))
        elif verb == "cancel" and handles:
            name = number % len(handles)
            handles[name].cancel()
            model = [entry for entry in model if entry[1] != name]
        elif verb == "tick":
            clock.tick(number)
        elif verb == "wall":
            clock.set_wall(clock.now_us() + seconds(number))
            clock.tick(60)
        if verb in ("tick", "wall"):
            due_now = [entry for entry in model if entry[0] <= clock.now_us()]
            assert sorted(fired) == sorted(name for _, name in due_now)
            if verb == "tick":
                assert fired == [name for _, name in sorted(due_now)]
            model = [entry for entry in model if entry not in due_now]
            fired.clear()
        assert len(timers) == len(model)
        assert timers.next_due() == (min(model)[0] if model else None)
