"""One write that is no instance's, committed."""

import asyncio

from taskengine.model.records import Write
from taskengine.store.checkpointer import Ack, Checkpointer

__all__ = ["saved"]


async def saved(checkpointer: Checkpointer, write: Write, ended: Ack | None = None) -> None:
    """Returns after the commit. Raises CommitFailed. Who stops waiting does not stop the write.

    ended  called when it has ended, also when nobody waits any more, before anybody who waits goes on
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def acknowledge(error: BaseException | None) -> None:
        if ended is not None:
            ended(error)
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(None)

    checkpointer.save(write, acknowledge)
    await done
