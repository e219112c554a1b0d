"""Gauges that nobody keeps up to date while the engine works: they are read off when somebody asks."""

import platform

from taskengine.ambient import Metrics
from taskengine.engine.engine import Engine
from taskengine.model.states import InstanceState
from taskengine.version import VERSION

__all__ = ["refresh_gauges"]


async def refresh_gauges(engine: Engine, metrics: Metrics) -> None:
    """Bring the gauges of an engine up to date, before its metrics are rendered. Raises StoreError, Unavailable."""
    metrics.gauge("build.info", 1, version=VERSION, python=platform.python_version())
    status, actors = await engine.status(), engine.actors()
    for state in InstanceState:
        metrics.gauge("instances.current", status.store.instances.get(state, 0), status=state.value)
    metrics.gauge("engine.slots", status.slots)
    metrics.gauge("engine.running", status.running)
    metrics.gauge("engine.queued", status.queued)
    for pool in status.pools:
        metrics.gauge("pools.slots", pool.pool.slots, pool=pool.pool.name)
        metrics.gauge("pools.running", pool.running, pool=pool.pool.name)
        metrics.gauge("pools.queued", pool.queued, pool=pool.pool.name)
    metrics.gauge("threads.stuck", status.stuck)
    metrics.gauge("actors.alive", len(actors))
    metrics.gauge("actors.mailbox_depth", sum(actor.depth for actor in actors))
