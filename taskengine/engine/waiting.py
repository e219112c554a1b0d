"""Waiting for an instance: by the news of its commits, with a look at the store where there are none."""

import asyncio
from collections.abc import Callable

from taskengine.engine.directory import Directory, Watch
from taskengine.engine.reading import Reading
from taskengine.engine.views import InstanceView
from taskengine.errors import WaitTimeout
from taskengine.model.ids import InstanceId

__all__ = ["Enough", "until"]

Enough = Callable[[InstanceView], bool]


async def until(
    directory: Directory, reading: Reading, instance_id: InstanceId, timeout_s: float | None, enough: Enough
) -> InstanceView:
    """The first view that is enough. Raises NotFound, Unavailable, and WaitTimeout when `timeout_s` is over first."""
    try:
        with directory.watch(instance_id) as watch:  # before the first look, so that nothing is missed
            if timeout_s is None:
                return await _follow(directory, reading, watch, enough)
            async with asyncio.timeout(timeout_s):
                return await _follow(directory, reading, watch, enough)
    except TimeoutError:
        raise WaitTimeout(f"instance {instance_id} did not get there within {timeout_s:g} s") from None


async def _follow(directory: Directory, reading: Reading, watch: Watch, enough: Enough) -> InstanceView:
    # An instance in memory has something to do: its next news spare a look at the store.
    instance_id = watch.instance_id
    snapshot = await watch.next() if directory.get(instance_id) is not None else None
    while True:
        view = await (reading.instance(instance_id) if snapshot is None else reading.view_of(snapshot))
        if enough(view):
            return view
        snapshot = await watch.next()
