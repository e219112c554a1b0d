"""How far an engine is with taking up what an earlier process left."""

from collections.abc import Iterable

from taskengine.ambient import Metrics
from taskengine.model.ids import InstanceId

__all__ = ["Recovery"]


class Recovery:
    """Unfinished instances that are not back yet. Belongs to the loop's thread.

    An instance is back when its recovery is committed and what it has to run is queued, or when it is known that it
    cannot be read.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._away: set[InstanceId] = set()
        self._all_known = False

    @property
    def over(self) -> bool:
        """Every unfinished instance is back."""
        return self._all_known and not self._away

    def expect(self, instance_ids: Iterable[InstanceId]) -> None:
        self._away.update(instance_ids)

    def all_known(self) -> None:
        """No more are expected."""
        self._all_known = True

    def back(self, instance_id: InstanceId) -> None:
        """Also of an instance that was never away: nothing happens."""
        if instance_id in self._away:
            self._away.discard(instance_id)
            self._metrics.count("engine.recovered")

    def lost(self, instance_id: InstanceId) -> None:
        """It cannot be brought into memory now; nobody waits for it."""
        self._away.discard(instance_id)
