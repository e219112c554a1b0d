"""Every metric there is: its name inside, its kind, its labels, and what it says.

Outside, `tasks.queue_wait_s` is `taskengine_tasks_queue_wait_seconds`, and a counter ends in `_total`. docs/metrics.md
has the same list for readers; a test compares both with the names in the source.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

__all__ = ["CATALOGUE", "Kind", "Measure", "outside_name"]

Kind = Literal["counter", "gauge", "histogram"]

_SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    7200.0,
)
_ROWS: Final = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)


class Measure(msgspec.Struct, frozen=True):
    """One metric. `labels` in the order in which they are shown; `buckets` are upper bounds, of histograms only."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _count(help: str, *labels: str) -> Measure:
    return Measure("counter", help, labels)


def _gauge(help: str, *labels: str) -> Measure:
    return Measure("gauge", help, labels)


def _spread(help: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Measure:
    return Measure("histogram", help, labels, buckets)


CATALOGUE: Final[Mapping[str, Measure]] = {
    "actors.abandoned": _count("Coroutines that did not end when the engine stopped"),
    "actors.alive": _gauge("Actors in memory"),
    "actors.dead_letters": _count("Messages for actors that had stopped"),
    "actors.escalations": _count("Children that failed more often than their supervisor allows"),
    "actors.failures": _count("Actors that ended with an error"),
    "actors.mailbox_depth": _gauge("Messages that wait in all mailboxes"),
    "actors.restarts": _count("Actors that a supervisor started again"),
    "actors.slow_bursts": _count("Bursts of messages that held the loop longer than their slice"),
    "build.info": _gauge("Always 1; the labels say what runs", "version", "python"),
    "bus.dropped": _count("Frames that a slow subscriber lost"),
    "commit.backlog": _gauge("Rows that wait for their commit"),
    "commit.refused": _count("Decisions that the store refused"),
    "commit.rows": _spread("Rows of a commit", buckets=_ROWS),
    "commit.seconds": _spread("How long a commit took"),
    "commit.splits": _count("Commits that were refused and tried again in parts"),
    "commit.unavailable": _count("Commits that found the store unavailable and were tried again"),
    "engine.queued": _gauge("Tasks that wait for a slot"),
    "engine.recovered": _count("Unfinished instances that a start took up again"),
    "engine.running": _gauge("Task bodies that run"),
    "engine.slots": _gauge("Task bodies that may run at the same time"),
    "gate.refused": _count("Requests that the gate refused", "reason"),
    "http.duration_s": _spread("From the request to the end of its answer", "route"),
    "http.requests": _count("Requests that were answered", "method", "route", "status"),
    "instances.current": _gauge("Instances in each state", "status"),
    "instances.duration_s": _spread("From the start of an instance to its end", "status"),
    "instances.ended": _count("Instances that came to their end", "status"),
    "instances.rebuilt": _count("Instances whose actor failed and was built again from the store"),
    "instances.started": _count("Instances that were started"),
    "logs.dropped": _count("Log lines of tasks that were not stored", "reason"),
    "logs.lines": _count("Log lines of tasks that were stored"),
    "loop.blocked": _count("Times that something held the loop for half a second and more"),
    "loop.lag_s": _gauge("How late the loop came to its work lately"),
    "pools.queued": _gauge("Tasks that wait for a slot of the pool, for a worker, or for the pool's rate", "pool"),
    "pools.running": _gauge("Task bodies that run in a slot of the pool", "pool"),
    "pools.slots": _gauge("Task bodies that may run in the pool at the same time", "pool"),
    "retention.removed": _count("Ended instances that were removed because their retention was over, or by request"),
    "stream.clients": _gauge("WebSocket and event stream clients"),
    "stream.closed": _count("Streams that the server closed", "reason"),
    "stream.frames": _count("Frames that were sent to stream clients"),
    "stream.gaps": _count("Gap frames: a client was too slow, or came back too late"),
    "tasks.abandoned": _count("Bodies that did not end within their grace and were left behind"),
    "tasks.attempts": _count("Attempts that ended", "outcome"),
    "tasks.duration_s": _spread("From the start of a body to its end", "job"),
    "tasks.ended": _count("Tasks that came to their end", "status", "job"),
    "tasks.queue_wait_s": _spread("From the offer of an attempt to its slot"),
    "threads.stuck": _gauge("Threads whose body was told to end and goes on"),
    "traces.dropped": _count("Spans that were not exported"),
}
"""By name, sorted."""


def outside_name(name: str) -> str:
    """What Prometheus calls it, without the `_total` of a counter."""
    plain = name.replace(".", "_")
    return "taskengine_" + (plain.removesuffix("_s") + "_seconds" if plain.endswith("_s") else plain)
