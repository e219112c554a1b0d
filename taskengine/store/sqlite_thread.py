"""A SQLite connection with its thread: a whole transaction is one hop there and back.

aiosqlite sends each call to the connection's thread by itself, so BEGIN, the statements of a batch and COMMIT would
be eight hops. Its proxy calls methods of the connection class that it is given; ours runs in `commit()` what was
staged on it. Measured with one writer, decisions of three rows, Python 3.11, SQLite 3.40, two shared cores, p50:
0.32 ms a commit, of which the disk has 0.25; a hop for each statement costs 0.39 ms on a quiet machine, 0.9 on a
busy one.
"""

import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiosqlite

from taskengine.errors import StoreCorrupt, StoreError, StoreUnavailable, Unavailable

__all__ = ["StagedConnection", "WorkThread", "translate"]

_T = TypeVar("_T")

BUSY_TIMEOUT_S: Final = 2.0

_RETRY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOMEM,
    }
)
# A full disk shows as FULL, a file size limit as IOERR_WRITE, no room for the shared memory as IOERR_SHMSIZE.
_RETRY_EXTENDED: Final = frozenset(
    {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_NOMEM, sqlite3.SQLITE_IOERR_LOCK}
)
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def translate(exc: sqlite3.Error, where: str) -> StoreError:
    """Retry, corrupt or fatal, by SQLite's code. A failed fsync is fatal: what the kernel dropped is unknown."""
    code = getattr(exc, "sqlite_errorcode", 0)
    text = f"{where}: {getattr(exc, 'sqlite_errorname', type(exc).__name__)}: {exc}"
    if code in _RETRY_EXTENDED or code & 0xFF in _RETRY:
        return StoreUnavailable(text)
    return StoreCorrupt(text) if code & 0xFF in _CORRUPT else StoreError(text)


class StagedConnection(sqlite3.Connection):
    """Each `commit()` first runs the work that was staged for it, all on the connection's thread."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._staged: deque[Callable[[], None]] = deque()

    def stage(self, work: Callable[[], None]) -> None:
        """For the next `commit()` that has none; from any thread, in the order of the commits to come."""
        self._staged.append(work)

    def commit(self) -> None:
        """Run it, then commit what it left open; if it raises, roll back."""
        try:
            if self._staged:
                self._staged.popleft()()
            super().commit()
        except BaseException:
            if self.in_transaction:  # a full disk has ended it already, and another ROLLBACK would be an error
                self.rollback()
            raise


class WorkThread:
    """One connection, its thread, and nothing but whole pieces of work for it.

    Not for several loops. `run` of one WorkThread may be called by many: the work is done in the order of the calls.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path, self._read_only = path, read_only
        self._raw: StagedConnection | None = None
        self._proxy: aiosqlite.Connection | None = None
        self.queued = 0

    async def open(self) -> None:
        """Open an existing file in autocommit mode. Raises StoreError."""
        thread = self

        class Known(StagedConnection):
            def __init__(self, *args: Any, **named: Any) -> None:
                super().__init__(*args, **named)
                thread._raw = self

        uri = f"file:{quote(str(self._path))}?mode={'ro' if self._read_only else 'rw'}"
        try:
            self._proxy = await aiosqlite.connect(
                uri, uri=True, factory=Known, isolation_level=None, timeout=BUSY_TIMEOUT_S
            )
        except sqlite3.Error as exc:
            raise translate(exc, str(self._path)) from exc

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """`work` on the connection's thread, in one hop. It may leave a transaction open, which is committed then.

        Errors of SQLite come translated, all others as they are; nothing of the transaction remains. Being cancelled
        does not stop the work, only the waiting.
        """
        raw, proxy = self._raw, self._proxy
        if raw is None or proxy is None:
            raise Unavailable("the store is not open")
        answers: list[_T] = []
        self.queued += 1
        raw.stage(lambda: answers.append(work(raw)))
        try:
            await proxy.commit()
        except sqlite3.Error as exc:
            raise translate(exc, str(self._path)) from exc
        finally:
            self.queued -= 1
        return answers[0]

    async def close(self) -> None:
        """After the work that was handed in before; the thread has ended then. Idempotent."""
        proxy, self._proxy, self._raw = self._proxy, None, None
        if proxy is not None:
            await proxy.close()
