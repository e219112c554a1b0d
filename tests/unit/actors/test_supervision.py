"""Restart decisions as a pure function, then the supervisor that carries them out, on a manual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.actors import (
    AsyncActor,
    ChildSpec,
    Restart,
    RestartWhen,
    Supervisor,
    on_child_exit,
)
from taskengine.actors.supervision import restart_delay
from taskengine.errors import Conflict, RestartsExhausted

PROMPT = Restart(max_restarts=3, within_s=30, delay_s=1, max_delay_s=3)


@pytest.mark.parametrize(
    ("when", "clean", "verdict"),
    [
        (RestartWhen.PERMANENT, True, "restart"),
        (RestartWhen.PERMANENT, False, "restart"),
        (RestartWhen.TRANSIENT, True, "forget"),
        (RestartWhen.TRANSIENT, False, "restart"),
        (RestartWhen.TEMPORARY, True, "forget"),
        (RestartWhen.TEMPORARY, False, "forget"),
    ],
)
def test_verdict_follows_the_policy(when, clean, verdict):
    assert on_child_exit(Restart(when=when), [], 100.0, clean=clean) == verdict


@given(
    st.integers(1, 5),
    st.floats(1, 100),
    st.lists(st.floats(0, 1000), max_size=20),
    st.floats(1000, 2000),
)
def test_escalation_counts_the_restarts_in_the_window_only(most, within_s, restarts_s, now_s):
    policy = Restart(max_restarts=most, within_s=within_s)
    recent = sum(now_s - at_s <= within_s for at_s in restarts_s)
    expected = "restart" if recent < most else "escalate"
    assert on_child_exit(policy, restarts_s, now_s, clean=False) == expected


def test_delay_doubles_up_to_its_bound_and_starts_again_after_the_window():
    assert [restart_delay(PROMPT, [99.0] * number, 100.0) for number in range(4)] == [1, 2, 3, 3]
    assert restart_delay(PROMPT, [10.0] * 4, 100.0) == 1
    assert restart_delay(PROMPT, [99.0] * 5000, 100.0) == 3


class Worker(AsyncActor):
    def __init__(self, lives, key):
        self.lives, self.key = lives, key
        lives.append(f"{key} begins")

    def on_receive(self, message):
        if isinstance(message, Exception):
            raise message
        return message

    def on_stop(self):
        self.lives.append(f"{self.key} ends")


@pytest.fixture
def lives():
    return []


@pytest.fixture
def spec(lives):
    def make(key, restart=PROMPT):
        return ChildSpec(key=key, factory=lambda start: start(Worker, lives, key), restart=restart)

    return make


def restarts(system):
    return {line.name: line.restarts for line in system.snapshot() if line.parent}


async def test_children_start_in_order_and_stop_in_reverse(system, spec, lives, turns):
    supervisor = system.start(Supervisor, [spec("a"), spec("b"), spec("c")])
    await turns()
    await supervisor.stop()
    assert lives == ["a begins", "b begins", "c begins", "c ends", "b ends", "a ends"]


async def test_failed_child_is_built_anew_after_its_delay_and_the_others_stay(
    system, spec, lives, turns, clock, journal
):
    supervisor = system.start(Supervisor, [spec("a"), spec("b")])
    await turns()
    first = supervisor.actor.child("a")
    first.tell(ValueError("broken"))
    await turns()
    assert supervisor.actor.child("a") is None
    await clock.advance(0.9)
    assert supervisor.actor.child("a") is None
    await clock.advance(0.2)
    second = supervisor.actor.child("a")
    assert second is not first
    assert await second.ask("alive") == "alive"
    assert lives == ["a begins", "b begins", "a begins"]
    assert restarts(system) == {"a": 1, "b": 0}
    assert journal.counts["actors.restarts"] == 1


async def test_stopped_transient_child_is_forgotten_and_its_key_free(system, spec, turns, clock):
    supervisor = system.start(Supervisor, [spec("a")])
    await turns()
    await supervisor.actor.child("a").stop()
    await clock.advance(10)
    assert supervisor.actor.child("a") is None
    assert supervisor.actor.start_child(spec("a")).is_alive()


async def test_permanent_child_comes_back_from_an_orderly_stop(system, spec, turns, clock, lives):
    supervisor = system.start(Supervisor, [spec("a", Restart(when=RestartWhen.PERMANENT))])
    await turns()
    await supervisor.actor.child("a").stop()
    await clock.advance(1)
    assert lives == ["a begins", "a ends", "a begins"]


async def test_dismissed_child_does_not_come_back(system, spec, turns, clock, lives):
    supervisor = system.start(Supervisor, [spec("a", Restart(when=RestartWhen.PERMANENT))])
    await turns()
    supervisor.actor.stop_child("a")
    supervisor.actor.stop_child("unknown")
    await clock.advance(10)
    assert lives == ["a begins", "a ends"]
    assert supervisor.actor.child("a") is None


async def test_child_dismissed_between_two_lives_does_not_come_back(system, spec, turns, clock, lives):
    supervisor = system.start(Supervisor, [spec("a")])
    await turns()
    supervisor.actor.child("a").tell(ValueError("broken"))
    await turns()
    supervisor.actor.stop_child("a")
    await clock.advance(10)
    assert lives == ["a begins"]


async def test_key_is_taken_while_its_child_is_here(system, spec, turns):
    supervisor = system.start(Supervisor, [spec("a")])
    await turns()
    with pytest.raises(Conflict, match="'a'"):
        supervisor.actor.start_child(spec("a"))


async def test_child_that_fails_too_often_is_handed_to_escalate_and_the_others_go_on(
    system, spec, turns, clock, lives, journal
):
    given_up = []
    supervisor = system.start(
        Supervisor, [spec("a"), spec("b")], escalate=lambda key, error: given_up.append((key, error))
    )
    await turns()
    error = ValueError("broken")
    for _ in range(4):
        supervisor.actor.child("a").tell(error)
        await clock.advance(3)
    assert given_up == [("a", error)]
    assert lives.count("a begins") == 4
    assert supervisor.actor.child("a") is None
    assert await supervisor.actor.child("b").ask("alive") == "alive"
    assert journal.counts["actors.escalations"] == 1


async def test_rare_failures_never_escalate(system, spec, turns, clock):
    supervisor = system.start(Supervisor, [spec("a")])
    await turns()
    for _ in range(10):
        supervisor.actor.child("a").tell(ValueError("broken"))
        await clock.advance(31)
    assert restarts(system) == {"a": 10}


async def test_supervisor_without_escalate_fails_and_takes_the_others_with_it(
    system, spec, turns, clock, lives, journal
):
    supervisor = system.start(Supervisor, [spec("a"), spec("b")])
    await turns()
    for _ in range(4):
        supervisor.actor.child("a").tell(ValueError("broken"))
        await clock.advance(3)
    assert not supervisor.is_alive()
    assert lives[-1] == "b ends"
    name, error = journal.errors[-1]
    assert name == "actor.failed"
    assert isinstance(error, RestartsExhausted)
    assert isinstance(error.__cause__, ValueError)
    assert system.alive == 0


async def test_supervisor_under_a_supervisor_is_built_anew_with_its_children(system, spec, turns, clock, lives):
    inner = ChildSpec(key="inner", factory=lambda start: start(Supervisor, [spec("a")]), restart=PROMPT)
    outer = system.start(Supervisor, [inner], key="outer")
    await turns()
    for _ in range(4):
        outer.actor.child("inner").actor.child("a").tell(ValueError("broken"))
        await clock.advance(3)
    assert outer.actor.child("inner").actor.child("a").is_alive()
    assert restarts(system) == {"inner": 1, "a": 0}
    assert lives.count("a begins") == 5


async def test_constructor_that_raises_at_the_restart_counts_as_a_failure(system, turns, clock, lives):
    given_up = []
    builds = []

    def build(start):
        builds.append(clock.monotonic())
        if len(builds) > 1:
            raise KeyError("cannot be built")
        return start(Worker, lives, "a")

    supervisor = system.start(
        Supervisor,
        [ChildSpec(key="a", factory=build, restart=PROMPT)],
        escalate=lambda key, error: given_up.append((key, repr(error))),
    )
    await turns()
    supervisor.actor.child("a").tell(ValueError("broken"))
    for _ in range(4):
        await clock.advance(3)
    assert given_up == [("a", "KeyError('cannot be built')")]
    assert builds == [0.0, 3.0, 6.0, 9.0]


async def test_constructor_that_raises_at_the_start_makes_the_supervisor_fail(system, spec, turns, lives):
    def build(start):
        raise KeyError("cannot be built")

    supervisor = system.start(Supervisor, [spec("a"), ChildSpec(key="b", factory=build)])
    await turns()
    assert not supervisor.is_alive()
    assert lives == ["a begins", "a ends"]


async def test_stop_between_two_lives_leaves_no_timer(system, spec, turns, clock, lives):
    supervisor = system.start(Supervisor, [spec("a")])
    await turns()
    supervisor.actor.child("a").tell(ValueError("broken"))
    await turns()
    assert clock.next_timer() is not None
    await supervisor.stop()
    assert clock.next_timer() is None
    assert lives == ["a begins"]


async def test_messages_of_a_subclass_go_to_on_message(system, spec, turns):
    class Office(Supervisor):
        def on_message(self, message):
            return self.start_child(spec(message)).name

    office = system.start(Office)
    assert await office.ask("a") == "a"


async def test_rebuild_that_comes_late_does_not_touch_a_new_child_of_the_same_key(system, spec, turns, clock, lives):
    class Office(Supervisor):
        def on_message(self, message):
            self.stop_child("a")
            self.start_child(spec("a"))

    office = system.start(Office, [spec("a")])
    await turns()
    office.actor.child("a").tell(ValueError("broken"))
    await turns()
    office.tell("replace it")
    clock.tick(1)  # the rebuild is now in the mailbox, behind the replacement
    await turns()
    assert lives == ["a begins", "a begins"]
    assert system.alive == 2


async def test_unsupervised_namesake_may_end(system, spec, turns, clock, lives):
    supervisor = system.start(Supervisor, [spec("a")])
    await turns()
    child = supervisor.actor.child("a")
    namesake = system.start(Worker, [], "a", parent=supervisor, key="a")
    namesake.tell(ValueError("broken"))
    await clock.advance(10)
    assert supervisor.actor.child("a") is child
    assert lives == ["a begins"]


async def test_children_that_are_not_supervised_are_left_alone(system, turns, clock, lives):
    supervisor = system.start(Supervisor)
    loose = system.start(Worker, lives, "loose", parent=supervisor, key="loose")
    loose.tell(ValueError("broken"))
    await clock.advance(10)
    assert lives == ["loose begins"]
    assert supervisor.is_alive()
