"""engine/runner.py: who gets a slot, and when, in pools with slots and rates. The test owns the clock."""

from typing import Any

import pytest

from taskengine.clock import ManualClock
from taskengine.engine.directory import Directory
from taskengine.engine.meter import Meter
from taskengine.engine.runner import Runner
from taskengine.errors import UnknownPool
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.messages import Granted
from taskengine.model.pools import parse_pool, parse_rate


class Rig:
    """A runner, and what it has granted by message: (instance, ordinal, time)."""

    def __init__(self, slots: int, *pools: str, instances: str = "abc") -> None:
        self.clock, self.directory = ManualClock(), Directory()
        self.told: list[tuple[str, int, float]] = []
        for name in instances:
            actor: Any = _Ref(name, self)
            self.directory.enter(InstanceId(name), actor)
        self.runner = Runner(slots, self.directory, self.clock, map(parse_pool, pools))

    def ask(self, name: str, *ordinals: int, pool: str = "", priority: int = 0, alone: bool = False) -> list[int]:
        offers = [(Ordinal(ordinal), 1) for ordinal in ordinals]
        return [it[0] for it in self.runner.request(InstanceId(name), offers, (pool, priority), alone=alone)]

    def release(self, name: str, ordinal: int) -> list[tuple[str, int]]:
        """Whom it lets begin."""
        return self._news(lambda: self.runner.release(InstanceId(name), Ordinal(ordinal), 1))

    def decline(self, name: str, ordinal: int) -> list[tuple[str, int]]:
        return self._news(lambda: self.runner.decline(InstanceId(name), Ordinal(ordinal), 1))

    def tick(self, span_s: float) -> list[tuple[str, int]]:
        return self._news(lambda: self.clock.tick(span_s))

    def _news(self, act: Any) -> list[tuple[str, int]]:
        before = len(self.told)
        act()
        return [entry[:2] for entry in self.told[before:]]


class _Ref:
    def __init__(self, name: str, rig: Rig) -> None:
        self.name, self.rig = name, rig

    def tell(self, message: Granted) -> None:
        self.rig.told.append((self.name, message.ordinal, self.rig.clock.monotonic()))


# -- turns ---------------------------------------------------------------------------------------------------------


def test_the_higher_priority_is_first_whoever_asked_before() -> None:
    rig = Rig(1)
    assert rig.ask("a", 0) == [0]
    assert rig.ask("a", 1, 2) == rig.ask("b", 1, priority=-1) == rig.ask("b", 2, priority=5) == []
    order = [rig.release("a", 0), rig.release("b", 2), rig.release("a", 1), rig.release("a", 2)]
    assert order == [[("b", 2)], [("a", 1)], [("a", 2)], [("b", 1)]]


def test_among_equals_instances_take_turns_however_much_one_of_them_has() -> None:
    rig = Rig(1)
    rig.ask("a", *range(100_000))
    rig.ask("b", 0, 1)
    rig.ask("c", 0)
    order, last = [], ("a", 0)
    for _ in range(6):
        [last] = rig.release(*last)
        order.append(last)
    assert order == [("a", 1), ("b", 0), ("c", 0), ("a", 2), ("b", 1), ("a", 3)]


def test_pools_take_turns_for_the_workers_and_the_priority_decides_between_them() -> None:
    rig = Rig(1, "io=9", "api=9")
    rig.ask("a", 0)
    rig.ask("a", 1, 2, 3)
    rig.ask("a", 11, 12, pool="io")
    rig.ask("b", 21, pool="api")
    rig.ask("b", 22, pool="api", priority=1)
    order, last = [], ("a", 0)
    for _ in range(7):
        [last] = rig.release(*last)
        order.append(last[1])
    assert order == [22, 1, 11, 21, 2, 12, 3]


def test_an_instance_that_goes_takes_its_offers_along_from_every_pool() -> None:
    rig = Rig(1, "io=1")
    rig.ask("b", 0)
    for pool in ("", "io"):
        rig.ask("a", 1, pool=pool, priority=3)
        rig.ask("b", 1 if pool else 2, pool=pool)
    rig.runner.forget(InstanceId("a"))
    assert rig.runner.queued == 2
    assert rig.release("b", 0) == [("b", 2)]
    assert rig.release("b", 2) == [("b", 1)]
    assert rig.release("b", 1) == []


def test_a_pool_has_no_higher_turn_from_an_instance_that_is_gone() -> None:
    rig = Rig(1, "io=9")
    rig.ask("c", 0)
    rig.ask("a", 1, pool="io", priority=9)
    rig.ask("b", 2, pool="io")
    rig.ask("c", 3, priority=5)
    rig.runner.forget(InstanceId("a"))
    assert rig.release("c", 0) == [("c", 3)]
    assert rig.release("c", 3) == [("b", 2)]


# -- slots ---------------------------------------------------------------------------------------------------------


def test_a_full_pool_holds_up_nobody_else() -> None:
    rig = Rig(3, "one=1")
    assert rig.ask("a", 0, 1, pool="one", priority=9) == [0]
    assert rig.ask("b", 0, 1) == [0, 1]
    assert rig.release("b", 0) == []
    assert rig.release("a", 0) == [("a", 1)]


def test_a_pool_takes_a_worker_for_each_of_its_slots() -> None:
    rig = Rig(2, "wide=5")
    assert rig.ask("a", 0, 1, 2, pool="wide") == [0, 1]
    assert rig.ask("b", 0) == []
    assert rig.runner.busy == 2
    [status] = rig.runner.pools()
    assert (status.pool.name, status.running, status.queued) == ("wide", 2, 1)


def test_a_body_of_an_instance_that_has_gone_keeps_its_slot_in_the_pool_until_it_ends() -> None:
    rig = Rig(5, "one=1")
    rig.ask("a", 0, pool="one")
    rig.directory.bodies.add((InstanceId("a"), 0, 1))
    rig.runner.forget(InstanceId("a"))
    assert rig.ask("b", 0, pool="one") == []
    rig.directory.bodies.clear()
    assert rig.release("a", 0) == [("b", 0)]
    assert rig.release("a", 0) == [], "it is not given back twice"


def test_at_most_32_are_granted_in_the_callers_turn() -> None:
    rig = Rig(100, "wide=90")
    assert rig.ask("a", *range(40), pool="wide") == list(range(32))
    assert [entry[1] for entry in rig.told] == list(range(32, 40))


def test_what_runs_alone_runs_in_its_pool_and_before_others_that_wait_for_it() -> None:
    rig = Rig(5, "one=1")
    rig.ask("a", 0, pool="one")
    assert rig.ask("b", 1, 2, pool="one", alone=True) == rig.ask("c", 3, pool="one", priority=9) == []
    assert rig.ask("c", 4) == [4], "only the pool is full"
    assert rig.runner.pools()[0].queued == 3
    assert rig.release("a", 0) == [("b", 1)]
    assert rig.release("b", 1) == [("b", 2)]
    assert rig.release("b", 2) == [("c", 3)]


def test_what_is_to_run_alone_is_alone_of_its_kind_whatever_its_instance() -> None:
    rig = Rig(5)
    assert rig.ask("a", 0, 1, alone=True) == [0]
    assert rig.ask("b", 2, alone=True) == []
    assert rig.release("a", 0) == [("a", 1)]
    assert rig.release("a", 1) == [("b", 2)]


def test_an_unknown_pool_is_bounded_by_the_workers_and_says_so_when_it_is_asked_for() -> None:
    rig = Rig(2, "api=1")
    assert rig.ask("a", 0, 1, 2, pool="apy") == [0, 1]
    rig.runner.require("")
    rig.runner.require("api")
    with pytest.raises(UnknownPool, match=r"unknown pool `apy`, did you mean `api`\? If not, declare it"):
        rig.runner.require("apy")
    with pytest.raises(UnknownPool, match=r"`task-engine\.execution\.pools: \{数据: 5\}`, or `--pool 数据=5`"):
        rig.runner.require("数据")


# -- rates ---------------------------------------------------------------------------------------------------------


def started(rig: Rig, count: int, span_s: float, pool: str) -> list[float]:
    """The times at which attempts begin that are all there from the beginning and end at once."""
    rig.told += [("a", ordinal, 0.0) for ordinal in rig.ask("a", *range(count), pool=pool)]
    end_s = rig.clock.monotonic() + span_s
    for name, ordinal, _ in rig.told:  # it grows meanwhile
        rig.release(name, ordinal)
        while rig.told[-1][1] == ordinal and (due_s := rig.clock.next_timer()) is not None and due_s <= end_s:
            rig.clock.tick(max(0.0, due_s - rig.clock.monotonic()) + 1e-6)
    return [at_s for _, _, at_s in rig.told]


def test_a_rate_lets_a_tenth_of_a_second_begin_at_once_and_then_one_after_the_other() -> None:
    times = started(Rig(100, "api=100@50/s"), 1000, 2.0, "api")
    assert times[:5] == [0.0] * 5
    assert times[5:] == pytest.approx([0.02 * at for at in range(1, len(times) - 4)], abs=0.0011)
    assert len([at_s for at_s in times if at_s <= 1.0]) == pytest.approx(55, abs=1)
    assert len(times) == pytest.approx(105, abs=1)


@pytest.mark.parametrize(("rate", "apart_s"), [("10/m", 6.0), ("100/h", 36.0), ("5/s", 0.2)])
def test_a_slow_rate_never_lets_two_begin_at_once(rate: str, apart_s: float) -> None:
    times = started(Rig(9, f"api=9@{rate}"), 10, 4 * apart_s + 0.01, "api")
    assert times == pytest.approx([apart_s * at for at in range(5)], abs=0.0011)


def test_what_was_not_used_for_a_long_time_is_not_saved_up() -> None:
    rig = Rig(100, "api=100@50/s")
    rig.clock.tick(3600.0)
    assert len(rig.ask("a", *range(100), pool="api")) == 5


def test_one_timer_is_armed_for_the_next_token_and_nobody_looks_in_between() -> None:
    rig = Rig(9, "api=9@10/m")
    assert rig.ask("a", 0, 1, pool="api") == [0]
    rig.ask("b", 0, 1, pool="api")
    assert len(rig.clock._heap) == 1
    assert rig.clock.next_timer() == pytest.approx(6.0, abs=0.0011)
    assert rig.tick(5.9) == []
    assert rig.tick(0.2) == [("a", 1)]
    assert rig.clock.next_timer() == pytest.approx(12.0, abs=0.0011)


def test_no_timer_is_armed_while_a_slot_is_missing_too() -> None:
    rig = Rig(9, "api=1@10/m")
    rig.ask("a", 0, 1, pool="api")
    assert rig.clock.next_timer() is None
    rig.release("a", 0)
    assert rig.clock.next_timer() == pytest.approx(6.0, abs=0.0011)


def test_a_start_that_was_declined_does_not_count_and_the_next_one_need_not_wait() -> None:
    rig = Rig(9, "api=9@10/m")
    assert rig.ask("a", 0, 1, 2, pool="api") == [0]
    assert rig.decline("a", 0) == [("a", 1)]
    assert rig.release("a", 1) == []
    assert rig.tick(6.0) == [("a", 2)]


def test_a_token_that_came_back_leaves_no_timer_behind() -> None:
    rig = Rig(2, "api=9@10/m")
    rig.ask("a", 0, 1, pool="api")
    assert rig.clock.next_timer() is not None
    rig.ask("b", 0)
    rig.ask("b", 1, priority=9)
    assert rig.decline("a", 0) == [("b", 1)]
    assert rig.clock.next_timer() is None
    assert rig.release("b", 0) == [("a", 1)]


def test_a_declined_start_after_which_others_began_cannot_be_made_up_for() -> None:
    """Else two would begin too close to each other."""
    meter = Meter(parse_rate("10/s"))
    first = meter.take(0.0)
    second = meter.take(0.1)
    meter.give_back(first)
    assert not meter.ready(0.15)
    meter.give_back(second)
    assert meter.ready(0.15), "both have not begun"


def test_starts_of_a_burst_may_be_declined_in_any_order() -> None:
    rig = Rig(9, "api=9@50/s")
    assert rig.ask("a", *range(10), pool="api") == [0, 1, 2, 3, 4]
    assert [rig.decline("a", at) for at in (2, 0, 3, 1)] == [[], [], [], []]
    assert rig.decline("a", 4) == [("a", at) for at in range(5, 10)]


def test_who_asks_when_a_token_is_due_does_not_overtake_those_that_wait() -> None:
    rig = Rig(9, "api=9@10/m")
    rig.ask("a", 0, 1, pool="api")
    rig.clock._elapsed_us = 6_500_000  # the timer is late
    assert rig.ask("b", 0, pool="api") == []
    assert rig.told == [("a", 1, 6.5)]


def test_after_the_close_nothing_is_granted_and_no_timer_is_left() -> None:
    rig = Rig(9, "api=9@10/m")
    rig.ask("a", 0, 1, pool="api")
    rig.runner.close()
    assert rig.clock.next_timer() is None
    assert rig.release("a", 0) == rig.tick(60.0) == rig.ask("b", 0) == []


@pytest.mark.parametrize("rate", ["3/s", "7/m", "50/s", "1000/s", "999/h"])
def test_timers_that_are_a_little_late_cost_nothing_of_the_rate(rate: str) -> None:
    spec = parse_rate(rate)
    meter, begun_s, now_s = Meter(spec), 12_345.678, 12_345.678
    for _ in range(1000):
        meter.take(now_s)
        now_s = max(now_s, meter.due_s + 0.0009)
        assert meter.ready(now_s)
    at_most_s = 1000 * spec.interval_s + 0.001
    assert at_most_s - 0.103 <= now_s - begun_s <= at_most_s
