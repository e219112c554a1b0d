"""What surrounds every part of the engine: clock, ids, probe, log and metrics, as one small record.

It is made once by whoever starts a process and handed down at construction. There are no module-level
singletons and nothing reads the time, makes an id or writes a log line behind its back.
"""

import logging
from typing import Protocol

import msgspec

from taskengine.clock import Clock, IdSource, SystemClock, SystemIds
from taskengine.probe import Probe

__all__ = ["Ambient", "Log", "Metrics", "SilentMetrics", "StandardLog"]


class Log(Protocol):
    """Events with fields. The event is a fixed text, what varies goes into the fields."""

    def debug(self, event: str, /, **fields: object) -> None: ...
    def info(self, event: str, /, **fields: object) -> None: ...
    def warning(self, event: str, /, **fields: object) -> None: ...
    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None: ...


class Metrics(Protocol):
    """Counters, gauges and histograms by name, e.g. `actors.dead_letters`, `commit.rows`.

    The names and their labels are listed in `telemetry/catalogue.py`. Called from the loop's thread.
    """

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None: ...
    def gauge(self, name: str, value: float, /, **labels: str) -> None: ...
    def observe(self, name: str, value: float, /, **labels: str) -> None: ...


class StandardLog:
    """A `Log` on the standard logging module; fields follow the event as `key=value`."""

    def __init__(self, name: str = "taskengine") -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self._write(logging.ERROR, event, fields, exc)

    def _write(self, level: int, event: str, fields: dict[str, object], exc: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            text = " ".join([event, *(f"{key}={value!r}" for key, value in fields.items())])
            self._logger.log(level, text, exc_info=exc, extra={"event": event, "fields": fields})


class SilentMetrics:
    """Counts nothing; the default where nobody asks."""

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None:
        pass

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        pass

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        pass


class Ambient(msgspec.Struct, frozen=True, kw_only=True):
    """The record itself. Every field has the default of a plain process."""

    clock: Clock = msgspec.field(default_factory=SystemClock)
    ids: IdSource = msgspec.field(default_factory=SystemIds)
    probe: Probe = msgspec.field(default_factory=Probe)
    log: Log = msgspec.field(default_factory=StandardLog)
    metrics: Metrics = msgspec.field(default_factory=SilentMetrics)
