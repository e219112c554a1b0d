"""One write that is no instance's, committed."""

import asyncio

from taskengine.model.records import Write
from taskengine.store.checkpointer import Checkpointer

__all__ = ["saved"]


async def saved(checkpointer: Checkpointer, write: Write) -> None:
    """Returns after the commit. Raises CommitFailed. Who stops waiting does not stop the write."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def acknowledge(error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(None)

    checkpointer.save(write, acknowledge)
    await done
