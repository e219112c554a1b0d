"""What an instance contributes to the metrics."""

from collections import defaultdict, deque
from collections.abc import Sequence

from taskengine.ambient import Metrics
from taskengine.clock import Micros
from taskengine.engine.places import Place
from taskengine.engine.planner.cast import Cast
from taskengine.model.events import Transition
from taskengine.model.messages import Settled
from taskengine.model.states import TASK_FINAL, InstanceState

__all__ = ["Tally"]


class Tally:
    """Of one instance in memory; made only where somebody counts.

    The runner serves an instance's offers of one pool and priority in their order, so a time for each burst of them
    tells how long each waited. Offers that are to run alone have a queue of their own and are not measured.
    """

    __slots__ = ("_bursts", "_cast", "_metrics")

    def __init__(self, metrics: Metrics, cast: Cast) -> None:
        self._metrics = metrics
        self._cast = cast
        self._bursts: defaultdict[Place, deque[tuple[int, Micros]]] = defaultdict(deque)

    def started(self) -> None:
        self._metrics.count("instances.started")

    def ended(self, state: InstanceState, started_us: Micros | None, finished_us: Micros | None) -> None:
        """A run of it has come to its end."""
        self._metrics.count("instances.ended", status=state.value)
        if started_us is not None and finished_us is not None:
            self._metrics.observe("instances.duration_s", (finished_us - started_us) / 1_000_000, status=state.value)

    def asked(self, place: Place, offers: int, granted: int, at_us: Micros) -> None:
        """So many offers went to the runner, and so many of the oldest have a slot already."""
        if offers:
            self._bursts[place].append((offers, at_us))
        self.granted(place, granted, at_us)

    def granted(self, place: Place, offers: int, at_us: Micros) -> None:
        """So many of the oldest offers that waited there have got a slot."""
        bursts = self._bursts[place]
        while offers and bursts:
            left, asked_us = bursts.popleft()
            self._metrics.observe("tasks.queue_wait_s", (at_us - asked_us) / 1_000_000)
            if left > 1:
                bursts.appendleft((left - 1, asked_us))
            offers -= 1

    def attempt(self, settled: Settled, at_us: Micros) -> None:
        """An attempt has ended."""
        self._metrics.count("tasks.attempts", outcome=settled.outcome.value)
        if settled.started_us is not None:
            span_s = (at_us - settled.started_us) / 1_000_000
            self._metrics.observe("tasks.duration_s", span_s, job=self._cast.specs[settled.ordinal].job)

    def moved(self, transitions: Sequence[Transition]) -> None:
        """These are committed."""
        for moved in transitions:
            if moved.state in TASK_FINAL:
                self._metrics.count("tasks.ended", status=moved.state.value, job=self._cast.specs[moved.ordinal].job)
