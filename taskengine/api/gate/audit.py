"""Who changed what, when, and from where: one line of JSON for each call that could change something.

A line that cannot be written does not make its call fail: by then the engine has committed, and refusing the answer
would only make the caller repeat it. The first failure is logged, and so is the recovery with the number of lost lines.
"""

import os
import queue
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from taskengine.ambient import Log

__all__ = ["AuditEntry", "AuditLog", "FileAudit", "MemoryAudit"]

_JSON: Final = msgspec.json.Encoder()
_FLUSH_S: Final = 1.0
_CAPACITY: Final = 10_000


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    at         when it was answered, UTC
    principal  id and name of the token; empty for a wrong one
    route      template of the route, e.g. `/api/v1/instances/{instance_id}/cancel`
    ids        what stood in the path
    peer       the other end of the connection; `client` behind trusted proxies, `forwarded` what they said
    status     of the answer; 0: the connection was lost before there was one
    """

    at: datetime
    principal_id: str
    principal: str
    method: str
    route: str
    ids: dict[str, str]
    peer: str
    client: str
    forwarded: str
    status: int


class AuditLog(Protocol):
    """Takes entries on the loop's thread; never raises, never waits."""

    def record(self, entry: AuditEntry) -> None: ...

    def close(self) -> None:
        """Write what is left. Idempotent; later entries are dropped."""
        ...


class MemoryAudit:
    """Keeps the entries; for tests and for stores that end with the process."""

    def __init__(self, keep: int = 1000) -> None:
        self.entries: list[AuditEntry] = []
        self._keep = keep

    def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)
        del self.entries[: -self._keep]

    def close(self) -> None:
        pass


class FileAudit:
    """Appends to a file of mode 0600, from a thread of its own, at least once a second and at `close`.

    The thread starts with the first entry. A process that is killed loses the entries of its last second. When the disk
    is so slow that 10,000 entries wait, new ones are dropped and counted.
    """

    def __init__(self, path: Path, log: Log, *, flush_s: float = _FLUSH_S) -> None:
        self._path = path
        self._log = log
        self._flush_s = flush_s
        self._queue: queue.Queue[bytes | None] = queue.Queue(_CAPACITY)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._lost = 0

    def record(self, entry: AuditEntry) -> None:
        if self._closing.is_set():
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="audit", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(_JSON.encode(entry) + b"\n")
        except queue.Full:
            self._note(1, "too many entries wait")

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=5)
            except queue.Full:
                return  # the disk does not answer; the daemon thread ends with the process
            self._thread.join(timeout=5)

    def _write(self) -> None:
        """The thread: whatever arrived within a second is one append."""
        done = False
        while not done:
            first = self._queue.get()
            if first is not None:
                self._closing.wait(self._flush_s)  # company for the first one; `close` ends the wait early
            lines, done = self._take(first)
            if lines:
                self._append(lines)

    def _take(self, first: bytes | None) -> tuple[list[bytes], bool]:
        lines, last = [], first
        while last is not None:
            lines.append(last)
            try:
                last = self._queue.get_nowait()
            except queue.Empty:
                return lines, False
        return lines, True

    def _append(self, lines: list[bytes]) -> None:
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _write_all(handle, b"".join(lines))
            finally:
                os.close(handle)
        except OSError as error:
            self._note(len(lines), str(error))
        else:
            if self._lost:
                self._log.warning("audit.writing_again", path=str(self._path), lost=self._lost)
                self._lost = 0

    def _note(self, lost: int, reason: str) -> None:
        if not self._lost:
            self._log.error("audit.not_written", path=str(self._path), reason=reason)
        self._lost += lost


def _write_all(handle: int, data: bytes, write: Callable[[int, bytes], int] = os.write) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write(handle, bytes(rest)) :]
