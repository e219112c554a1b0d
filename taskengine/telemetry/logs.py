"""Log lines of the program itself, on stderr, with bound ids."""

import logging
import sys
from collections.abc import Callable
from typing import Final, TextIO

from taskengine.ambient import Log

__all__ = ["BoundLog", "set_up_logging"]

_ROOT: Final = "taskengine"
_TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"


class BoundLog:
    """A log that adds the same fields to every line: the instance, the task. Fields of the line win."""

    def __init__(self, log: Log, **fields: object) -> None:
        self._log, self._fields = log, fields

    def bind(self, **fields: object) -> "BoundLog":
        """A log with these fields, too."""
        return BoundLog(self._log, **self._fields | fields)

    def debug(self, event: str, /, **fields: object) -> None:
        self._log.debug(event, **self._fields | fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._log.info(event, **self._fields | fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._log.warning(event, **self._fields | fields)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        self._log.error(event, exc=exc, **self._fields | fields)


class _CurrentStderr(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment: a live display may stand in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream: TextIO = sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)


class _Readable(logging.Formatter):
    """A line for people; what it says comes partly from outside."""

    def __init__(self, shown: Callable[[str], str]) -> None:
        super().__init__(_TEXT)
        self._shown = shown

    def format(self, record: logging.LogRecord) -> str:
        return self._shown(super().format(record))


def set_up_logging(level: str, shown: Callable[[str], str] = str) -> None:
    """Send the program's log lines of `level` and above to stderr. Again: the last call counts.

    level  debug, info, warning, error
    shown  makes the text of a line fit for where it is read, e.g. without what a terminal would obey
    """
    handler = _CurrentStderr()
    handler.setFormatter(_Readable(shown))
    logger = logging.getLogger(_ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
