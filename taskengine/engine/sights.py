"""How instances are as their commits left them, without asking the store: those in memory, and lately ended ones."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from taskengine.engine.views import InstanceView
from taskengine.model.ids import InstanceId, Ordinal
from taskengine.model.progress import Progress
from taskengine.model.records import Decision, InstanceRow
from taskengine.model.states import Phase

__all__ = ["Ending", "Sights", "Snapshot", "results_of"]

Snapshot = tuple[InstanceRow, Progress]
"""An instance as a commit left it."""

_OVERHEAD: Final = 2000
"""About what an ending occupies besides its params, results and error."""


class Ending(msgspec.Struct, gc=False):
    """An instance that has ended.

    results  of the tasks on which nothing depends; None: they were not at hand
    view     once somebody has looked; it does not change any more
    """

    row: InstanceRow
    progress: Progress
    results: Mapping[Ordinal, bytes] | None
    view: InstanceView | None = None

    @property
    def size(self) -> int:
        results = () if self.results is None else self.results.values()
        return _OVERHEAD + len(self.row.params) + len(self.row.error) + sum(map(len, results))


class Sights:
    """Committed copies. Belongs to the loop's thread.

    A copy is right because one process owns the store and only the actor of an instance writes its rows: `publish`
    tells of each commit, in their order, and `forget` that an actor has failed and its commits will not be told.
    What was read from the store is kept only if the instance has neither been in memory nor changed since the reading
    began; so nothing older ever replaces something newer.

    most, most_bytes  of ended instances; those that were not looked at for longest go first
    """

    def __init__(self, most: int = 16_384, most_bytes: int = 32 << 20) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._live: dict[InstanceId, Snapshot] = {}
        self._ended: OrderedDict[InstanceId, Ending] = OrderedDict()
        self._bytes = 0
        self._readings: dict[InstanceId, object] = {}
        self._closed = False

    def publish(self, row: InstanceRow, progress: Progress, results: Mapping[Ordinal, bytes] | None) -> None:
        """A commit of an instance in memory is acknowledged. `results`: of one at its end."""
        instance_id = row.id
        self._readings.pop(instance_id, None)
        if instance_id in self._ended:
            self._drop(instance_id)
        if row.phase is not Phase.END:
            if not self._closed:
                self._live[instance_id] = (row, progress)
            return
        self._live.pop(instance_id, None)
        self._keep(Ending(row, progress, results))

    def leave(self, instance_id: InstanceId) -> None:
        """It has left memory, with all its commits told."""
        self._live.pop(instance_id, None)

    def enter(self, instance_id: InstanceId) -> None:
        """It comes into memory: what is being read of it may soon be old."""
        self._readings.pop(instance_id, None)

    def forget(self, instance_id: InstanceId) -> None:
        """What is known of it may be old, and what is being read too."""
        self._readings.pop(instance_id, None)
        self._live.pop(instance_id, None)
        if instance_id in self._ended:
            self._drop(instance_id)

    def live(self, instance_id: InstanceId) -> Snapshot | None:
        """Of an instance in memory that is not at its end and has committed since it came there."""
        return self._live.get(instance_id)

    def ended(self, instance_id: InstanceId) -> Ending | None:
        ending = self._ended.get(instance_id)
        if ending is not None:
            self._ended.move_to_end(instance_id)
        return ending

    def begin(self, instance_id: InstanceId) -> object:
        """The store will be asked; give the answer to `keep` with this ticket, in any case."""
        ticket = self._readings[instance_id] = object()
        return ticket

    def keep(self, instance_id: InstanceId, ticket: object, ending: Ending | None) -> None:
        """What the store said, if the instance has ended; the caller knows that it is not in memory."""
        if self._readings.get(instance_id) is not ticket:
            return
        del self._readings[instance_id]
        if ending is not None:
            if instance_id in self._ended:
                self._drop(instance_id)
            self._keep(ending)

    def close(self) -> None:
        """Nothing is told any more, so nothing is known."""
        self._closed = True
        self._live.clear()
        self._ended.clear()
        self._readings.clear()
        self._bytes = 0

    def _keep(self, ending: Ending) -> None:
        size = ending.size
        if self._closed or size > self._most_bytes >> 6:  # one large instance must not drive out all others
            return
        self._ended[ending.row.id] = ending
        self._bytes += size
        while len(self._ended) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._ended)))

    def _drop(self, instance_id: InstanceId) -> None:
        self._bytes -= self._ended.pop(instance_id).size


def results_of(decision: Decision, leaves: Sequence[int]) -> dict[Ordinal, bytes] | None:
    """Results of all of `leaves`, if the decision writes all of them; else None, and the store has to be asked."""
    if len(leaves) > len(decision.tasks):
        return None
    written = {change.row.ordinal: change.row.result for change in decision.tasks}
    found: dict[Ordinal, bytes] = {}
    for leaf in leaves:
        result = written.get(Ordinal(leaf), msgspec.UNSET)
        if result is msgspec.UNSET:
            return None
        if isinstance(result, bytes):
            found[Ordinal(leaf)] = result
    return found
