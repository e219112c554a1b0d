"""Log lines of the program itself, on stderr, with bound ids: text for people, or one JSON object a line."""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import msgspec

from taskengine.ambient import Log

__all__ = ["BoundLog", "set_up_logging"]

_ROOT: Final = "taskengine"
_SERVER: Final = "uvicorn"
_ACCESS: Final = "uvicorn.access"
_TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"
_JSON: Final = msgspec.json.Encoder()


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


class _OneObject(logging.Formatter):
    """`{"at", "level", "logger", "event", fields…, "error"}`. A field that is named like one of these gets a `_`.

    Texts go through `shown` before they are encoded, so a secret is masked as in text; JSON escapes what a terminal
    would obey.
    """

    def __init__(self, shown: Callable[[str], str]) -> None:
        super().__init__()
        self._shown = shown

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._said(str(getattr(record, "event", None) or record.getMessage())),
        }
        for name, value in getattr(record, "fields", {}).items():
            line[name if name not in line else f"{name}_"] = self._plain(value)
        if record.exc_info:
            line["error"] = self._said(self.formatException(record.exc_info))
        return _JSON.encode(line).decode()

    def _plain(self, value: object) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._said(value if isinstance(value, str) else repr(value))

    def _said(self, text: str) -> str:
        return self._shown(text).encode(errors="replace").decode()  # JSON has no lone surrogates


def set_up_logging(
    level: str,
    shown: Callable[[str], str] = str,
    *,
    form: Literal["text", "json"] = "text",
    access: bool | None = None,
) -> None:
    """Send the program's log lines of `level` and above to stderr. Again: the last call counts.

    level   debug, info, warning, error
    shown   makes the text of a line fit for where it is read, e.g. without what a terminal would obey
    form    text for people, json for one object a line
    access  the lines of the web server, too; True: also one for each request. None: they stay as they are
    """
    handler = _CurrentStderr()
    handler.setFormatter(_OneObject(shown) if form == "json" else _Readable(shown))
    _lead(_ROOT, handler, level.upper())
    if access is not None:
        # The web server tells at `info` what we tell ourselves; its warnings and errors are news.
        _lead(_SERVER, handler, "WARNING")
        _lead(_ACCESS, handler, "INFO" if access else "CRITICAL")
        logging.captureWarnings(True)
        _lead("py.warnings", handler, "WARNING")


def _lead(name: str, handler: logging.Handler, level: str) -> None:
    logger = logging.getLogger(name)
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
