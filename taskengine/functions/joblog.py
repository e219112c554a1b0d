"""What job code says through the standard `logging` module becomes lines of its attempt."""

import logging
import threading
from typing import Final

from taskengine.functions.context import current_context

__all__ = ["Hearing", "JobLogHandler", "root_level"]

_OURS: Final = "taskengine"
_LOCK: Final = threading.Lock()


class JobLogHandler(logging.Handler):
    """Stands on the root logger while engines of this process run; there is never more than one.

    A record that is emitted inside a job, wherever it runs, becomes a line of that attempt. Every other handler gets
    it too. The engine's own records are left alone, else a line about lines would have no end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._busy = threading.local()
        self._text = logging.Formatter()
        self.users = 0
        self.found_level: int | None = None  # of the root logger, where we have changed it

    def createLock(self) -> None:  # noqa: N802  # the name of the standard library
        """None: telling is safe from any thread, and threads of jobs need not wait for each other."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _OURS or record.name.startswith("taskengine."):
            _fall_back(record)
            return
        context = current_context()
        if context is None:
            _fall_back(record)
        elif not getattr(self._busy, "now", False):
            self._busy.now = True
            try:
                context.tell(_level(record.levelno), self._line(record))
            finally:
                self._busy.now = False

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self._text.format(record)
        except Exception:  # arguments that do not fit the message must not fail a job
            return f"{record.msg} {record.args!r}"


class Hearing:
    """From `begin` to `end`, or while it is entered, standard logging inside jobs is heard. Any thread.

    There may be any number of them, in any order: one for each engine of this process.

    The root logger lets nothing below WARNING through until somebody configures it, so `logger.info` of a job would
    be lost: one that is unconfigured (no handler, level WARNING) is set to `level` meanwhile, and set back at the end.
    Outside of jobs that shows nothing more than before: there is still no handler that would write it.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        self._level = level
        self._handler: JobLogHandler | None = None

    def begin(self) -> None:
        """Once."""
        root = logging.getLogger()
        with _LOCK:
            handler = next((each for each in root.handlers if isinstance(each, JobLogHandler)), None)
            if handler is None:
                handler = JobLogHandler()
                if not root.handlers and root.level == logging.WARNING and self._level < logging.WARNING:
                    handler.found_level = root.level
                    root.setLevel(self._level)
                root.addHandler(handler)
            handler.users += 1
            self._handler = handler

    def end(self) -> None:
        """Idempotent, also before `begin`."""
        root = logging.getLogger()
        with _LOCK:
            handler, self._handler = self._handler, None
            if handler is None:
                return
            handler.users -= 1
            if handler.users:
                return
            root.removeHandler(handler)
            if handler.found_level is not None and root.level == self._level:
                root.setLevel(handler.found_level)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *exc_info: object) -> None:
        self.end()


def root_level() -> int:
    """From which level on records reach the root logger's handlers; for a worker process to have the same."""
    return logging.getLogger().level


def _fall_back(record: logging.LogRecord) -> None:
    """Where nobody configured logging, Python itself writes warnings to stderr; our handler must not end that."""
    last = logging.lastResort
    if last is None or record.levelno < last.level:
        return
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if any(not isinstance(handler, JobLogHandler) for handler in logger.handlers):
            return
        logger = logger.parent if logger.propagate else None
    last.handle(record)


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
