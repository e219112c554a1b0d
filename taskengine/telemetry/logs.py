"""Log lines of the program itself, on stderr: as text for people or as JSON for collectors, with bound ids."""

import datetime
import logging
import sys
from collections.abc import Mapping
from typing import Final, Literal, TextIO

import msgspec

from taskengine.ambient import Log

__all__ = ["LEVELS", "BoundLog", "set_up_logging"]

LEVELS: Final = ("debug", "info", "warning", "error")
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


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: Mapping[str, object] = {
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **({"exception": self.formatException(record.exc_info)} if record.exc_info else {}),
        }
        return msgspec.json.encode(line).decode()


def set_up_logging(level: str, form: Literal["text", "json"] = "text") -> None:
    """Send the program's log lines of `level` (of LEVELS) and above to stderr. Again: the last call counts."""
    handler = _CurrentStderr()
    handler.setFormatter(_JsonLines() if form == "json" else logging.Formatter(_TEXT))
    logger = logging.getLogger(_ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
