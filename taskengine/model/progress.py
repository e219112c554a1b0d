"""How far an instance is, in seven numbers that add up."""

from collections.abc import Sequence

import msgspec

from taskengine.model.states import Bucket

__all__ = ["Progress"]


class Progress(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Tasks of one instance by bucket. In every committed state the seven add up to `total`."""

    completed: int = 0
    failed: int = 0
    running: int = 0
    pending: int = 0
    skipped: int = 0
    cancelled: int = 0
    compensation: int = 0

    @classmethod
    def of(cls, counts: Sequence[int]) -> "Progress":
        """`counts` in the order of `Bucket`."""
        assert len(counts) == len(Bucket)
        return cls(*counts)

    @property
    def total(self) -> int:
        return self.open + self.settled

    @property
    def open(self) -> int:
        return self.running + self.pending

    @property
    def settled(self) -> int:
        return self.completed + self.failed + self.skipped + self.cancelled + self.compensation

    @property
    def percent(self) -> int:
        """Final tasks over the total, rounded down, so that 100 means that nothing is open."""
        return 100 * self.settled // self.total if self.total else 100
