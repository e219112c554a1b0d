"""The runner's queue against a model that is too simple to be wrong, and the runner's laws under random orders."""

from collections import Counter, defaultdict
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskengine.clock import ManualClock
from taskengine.engine.directory import Directory
from taskengine.engine.places import by_place, place_of
from taskengine.engine.runner import Runner
from taskengine.engine.turns import Turns
from taskengine.model.definition import TaskSpec
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.messages import Granted
from taskengine.model.pools import Pool, parse_pool

INSTANCES = [InstanceId(name) for name in "甲乙丙丁"]
PRIORITIES = st.sampled_from([-3, 0, 0, 0, 7])


class Naive:
    """One list of everything that waits, and one of whose turn it is; each question looks through all of it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str, int]] = []
        self.turns: list[tuple[int, str]] = []

    def put(self, instance: str, offers: list[int], priority: int) -> None:
        self.waiting += [(priority, instance, offer) for offer in offers]
        if (priority, instance) not in self.turns:
            self.turns.append((priority, instance))

    def pop(self) -> tuple[str, int]:
        top = max(priority for priority, _, _ in self.waiting)
        turn = next(turn for turn in self.turns if turn[0] == top)
        entry = next(entry for entry in self.waiting if entry[:2] == turn)
        self.waiting.remove(entry)
        self.turns.remove(turn)
        if any(other[:2] == turn for other in self.waiting):
            self.turns.append(turn)
        return entry[1], entry[2]

    def drop(self, instance: str) -> None:
        self.waiting = [entry for entry in self.waiting if entry[1] != instance]
        self.turns = [turn for turn in self.turns if turn[1] != instance]


PUTS = st.tuples(st.just("put"), st.sampled_from(INSTANCES), st.integers(1, 4), PRIORITIES)
OPERATIONS = PUTS | st.just(("pop",)) | st.tuples(st.just("drop"), st.sampled_from(INSTANCES))


LEVELS = [("put", INSTANCES[at], 1, priority) for at, priority in enumerate((-3, 0, 7))]


@given(st.lists(OPERATIONS, max_size=60))
@example([*LEVELS, ("drop", INSTANCES[0]), ("pop",)])
@settings(max_examples=400)
def test_the_queue_gives_what_the_naive_model_gives(operations: list[Any]) -> None:
    turns, naive, numbers = Turns(), Naive(), iter(range(1000))
    for kind, *arguments in operations:
        if kind == "put":
            instance, count, priority = arguments
            offers = [next(numbers) for _ in range(count)]
            turns.put(instance, [(Ordinal(offer), 1) for offer in offers], priority)
            naive.put(instance, offers, priority)
        elif kind == "drop":
            turns.drop(arguments[0])
            naive.drop(arguments[0])
        elif naive.waiting:
            instance, offer = naive.pop()
            assert turns.pop() == (instance, (offer, 1))
        assert len(turns) == len(naive.waiting)
        assert bool(turns.ranks) == bool(naive.waiting)
        assert sorted(turns.ranks) == sorted({-priority for priority, _, _ in naive.waiting})
    while naive.waiting:
        instance, offer = naive.pop()
        assert turns.pop() == (instance, (offer, 1))
    assert not turns.ranks


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), PRIORITIES), max_size=12))
def test_a_burst_is_handed_in_whole_by_falling_priority_and_otherwise_in_its_order(
    wants: list[tuple[str, int]],
) -> None:
    specs = [
        TaskSpec(name=f"t{at}", job="j", pool=pool, priority=priority) for at, (pool, priority) in enumerate(wants)
    ]
    offers = [(Ordinal(at), 1) for at in range(len(specs))]
    places = by_place(offers, specs)
    assert [place[1] for place, _ in places] == sorted((place[1] for place, _ in places), reverse=True)
    assert len({place for place, _ in places}) == len(places)
    for place, some in places:
        assert list(some) == [offer for offer in offers if place_of(specs[offer[0]]) == place]


Body = tuple[InstanceId, Ordinal, int]
Heard = tuple[Body, float]


class Ref:
    """An instance's actor as the runner sees it."""

    def __init__(self, instance: InstanceId, clock: ManualClock, heard: list[Heard]) -> None:
        self._instance, self._clock, self._heard = instance, clock, heard

    def tell(self, message: Granted) -> None:
        self._heard.append(((self._instance, message.ordinal, message.attempt), self._clock.monotonic()))


POOLS = ("single=1", "wide=3", "slow=2@10/s", "quick=9@200/s")
RATES = {"slow": 10, "quick": 200}
PLACES = st.tuples(st.sampled_from(["", "single", "wide", "slow", "quick", "gone"]), PRIORITIES)


class RunnerMachine(RuleBasedStateMachine):
    """Requests, releases, declined grants, instances that vanish, and time, in any order.

    Laws: no more run than there are slots, of workers and of pools; no rate is exceeded; nobody waits who could run;
    within what one call hands out priorities only fall; in one place an instance's offers keep their order; nothing
    is granted twice, and at the end nothing is lost.
    """

    @initialize(slots=st.integers(1, 6))
    def begin(self, slots: int) -> None:
        self.clock, self.directory = ManualClock(), Directory()
        self.heard: list[Heard] = []
        for instance in INSTANCES:
            actor: Any = Ref(instance, self.clock, self.heard)
            self.directory.enter(instance, actor)
        self.pools = [parse_pool(text) for text in POOLS]
        self.runner = Runner(slots, self.directory, self.clock, self.pools)
        self.waiting: dict[Body, tuple[str, int]] = {}
        self.running: dict[Body, tuple[str, int]] = {}
        self.starts: defaultdict[str, dict[Body, float]] = defaultdict(dict)
        self.numbers = 0

    def _take(self, at_once: list[Body], *, one_call: bool = True) -> None:
        """What has been granted since the last time moves over; the asker's own come first, as they were granted."""
        now_s = self.clock.monotonic()
        granted, self.heard[:] = [*((body, now_s) for body in at_once), *self.heard], []
        ranks = []
        for body, at_s in granted:
            place = self.waiting.pop(body)  # KeyError: it was granted twice
            earlier = [one for one, other in self.waiting.items() if one[0] == body[0] and other == place]
            assert all(one[1] > body[1] for one in earlier), "an instance's offers of one place keep their order"
            self.running[body] = place
            self.starts[place[0]][body] = at_s
            ranks.append(-place[1])
        if one_call and len(at_once) in (0, len(granted)):  # else the two lists are not in one order
            assert ranks == sorted(ranks)

    @rule(instance=st.sampled_from(INSTANCES), place=PLACES, count=st.integers(1, 40))
    def request(self, instance: InstanceId, place: tuple[str, int], count: int) -> None:
        offers = [(Ordinal(self.numbers + at), 1) for at in range(count)]
        self.numbers += count
        self.waiting.update(((instance, *offer), place) for offer in offers)
        granted = self.runner.request(instance, offers, place)
        assert len(granted) <= 32
        self._take([(instance, *offer) for offer in granted])

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[body]
        self.runner.release(*body)
        self._take([])

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def decline(self, data: st.DataObject) -> None:
        """No body has begun, so its start is taken out of the books."""
        body = data.draw(st.sampled_from(sorted(self.running)))
        pool = self.running.pop(body)[0]
        del self.starts[pool][body]
        self.runner.decline(*body)
        self._take([])

    @rule(instance=st.sampled_from(INSTANCES))
    def forget(self, instance: InstanceId) -> None:
        for books in (self.waiting, self.running):
            for body in [body for body in books if body[0] == instance]:
                del books[body]
        self.runner.forget(instance)
        self._take([])

    @rule(span_s=st.sampled_from([0.001, 0.01, 0.1, 1.0]))
    def pass_time(self, span_s: float) -> None:
        self.clock.tick(span_s)
        self._take([], one_call=False)

    @invariant()
    def nothing_is_overdrawn(self) -> None:
        if not hasattr(self, "runner"):
            return
        assert self.runner.busy == len(self.running) <= self.runner.slots
        assert self.runner.queued == len(self.waiting)
        running = Counter(pool for pool, _ in self.running.values())
        queued = Counter(pool for pool, _ in self.waiting.values())
        for status in self.runner.pools():
            name = status.pool.name
            assert (status.running, status.queued) == (running[name], queued[name])
            assert status.running <= status.pool.slots
        self._nobody_waits_in_vain(running, queued)

    def _nobody_waits_in_vain(self, running: Counter[str], queued: Counter[str]) -> None:
        if self.runner.busy == self.runner.slots:
            return
        slots = {pool.name: pool.slots for pool in self.pools}
        for name in +queued:
            full = running[name] >= slots.get(name, self.runner.slots + 1)
            assert full or name in RATES, f"something waits in {name or 'no pool'} and could run"
            if not full:
                due_s = self.clock.next_timer()
                assert due_s is not None
                assert due_s - self.clock.monotonic() <= 1 / RATES[name] + 0.001001, (
                    "its timer is armed for the next token"
                )

    def _no_rate_is_exceeded(self) -> None:
        for name, rate in RATES.items():
            times = sorted(self.starts[name].values())
            for first, begun_s in enumerate(times):
                for last in range(first, len(times)):
                    span_s = times[last] - begun_s
                    at_most = max(1 + rate * (span_s + 0.002), rate * (span_s + 0.101))
                    assert last - first + 1 <= at_most + 1e-6, f"{name}: {times[first : last + 1]}"

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        while self.waiting or self.running:
            for body in sorted(self.running):
                del self.running[body]
                self.runner.release(*body)
                self._take([])
            self.clock.tick(0.01)
            self._take([], one_call=False)
        assert self.runner.busy == self.runner.queued == 0
        self._no_rate_is_exceeded()


TestRunner = RunnerMachine.TestCase
TestRunner.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_pools_of_this_file_are_what_the_laws_think() -> None:
    assert {pool.name: pool.rate.count for pool in map(parse_pool, POOLS) if pool.rate} == RATES
    assert Pool("single", 1) in map(parse_pool, POOLS)
