"""Named moments in the engine, for crash tests. Free in production."""

from typing import Final

__all__ = ["POINTS", "Probe"]

POINTS: Final = (
    "start.before_commit",  # a start was accepted in memory, nothing is saved yet
    "commit.begin",  # a batch has been put together, its transaction is not open yet
    "commit.applied",  # every statement of the batch has run, COMMIT has not
    "commit.done",  # COMMIT returned, nobody has been told
    "commit.acknowledged",  # the callers of the batch have been told
    "grant.accepted",  # a slot was granted; the Running row is on its way
    "body.before",  # the job function is about to be called
    "body.after",  # it has returned, its outcome is not on its way yet
    "settle.before_commit",  # the outcome was decided in memory, nothing is saved yet
    "recovery.loaded",  # an instance was read back, its first decision is not made yet
    "recovery.committed",  # that decision is committed, nothing has been offered yet
)
"""Every point the engine reaches, in the order in which a task meets them."""


class Probe:
    """Tests subclass it to watch, or to kill the process at a named moment.

    A plain call and no coroutine: handlers, which never wait, reach it, and so does the committing thread.
    """

    __slots__ = ()

    def reach(self, point: str) -> None:
        """The engine has come to `point`, one of `POINTS`. Called on the loop's or the committing thread."""
