"""A SQLite connection with its thread: a whole transaction is one hop there and back.

aiosqlite sends each call to the connection's thread by itself, so BEGIN, the statements of a batch and COMMIT would
be eight hops. Its proxy calls methods of the connection class that it is given; ours runs in `commit()` what was
staged on it. Measured with one writer, decisions of three rows, Python 3.11, SQLite 3.40, two shared cores, p50:
0.32 ms a commit, of which the disk has 0.25; a hop for each statement costs 0.39 ms on a quiet machine, 0.9 on a
busy one.

Short pieces that are handed in while the thread is at work, or before it had its turn, go to it as one group: one
wake-up for all of them, and one back.
"""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiosqlite

from taskengine.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable, Unavailable

__all__ = ["StagedConnection", "WorkThread", "translate"]

_T = TypeVar("_T")

BUSY_TIMEOUT_S: Final = 2.0

_RETRY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
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
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return StoreFull(text)
    if code in _RETRY_EXTENDED or code & 0xFF in _RETRY:
        return StoreUnavailable(text)
    return StoreCorrupt(text) if code & 0xFF in _CORRUPT else StoreError(text)


class _Piece:
    """Work for the connection's thread, and then its outcome. `answered` is for all but the first of a group."""

    __slots__ = ("answered", "error", "value", "work")

    def __init__(self, work: Callable[[], Any], answered: "asyncio.Future[None]") -> None:
        self.work, self.answered = work, answered
        self.value: Any = None
        self.error: BaseException | None = None


class StagedConnection(sqlite3.Connection):
    """Each `commit()` runs one group of the pieces that were staged, on the connection's thread."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._lock = threading.Lock()
        self._groups: deque[list[_Piece]] = deque()
        self._open: list[_Piece] | None = None  # the last group, as long as it has not begun and may grow

    def stage(self, piece: _Piece, *, alone: bool) -> bool:
        """Whether it begins a group, so that who brings it has to call `commit()`; groups run in their order.

        alone  nothing joins it: what is behind is not answered later because of it, nor before it
        """
        with self._lock:
            if self._open is not None and not alone:
                self._open.append(piece)
                return False
            group = [piece]
            self._groups.append(group)
            self._open = None if alone else group
            return True

    def commit(self) -> None:
        """Run a group, each piece with a transaction of its own if it began one. The outcomes are in the pieces."""
        with self._lock:
            group = self._groups.popleft()
            if group is self._open:
                self._open = None
        for piece in group:
            self._run(piece)
        if followers := group[1:]:
            followers[0].answered.get_loop().call_soon_threadsafe(_answer, followers)

    def _run(self, piece: _Piece) -> None:
        """Commits what the work left open; if it raises, rolls back."""
        try:
            piece.value = piece.work()
            if self.in_transaction:
                super().commit()
        except BaseException as error:
            piece.error = error
            try:
                if self.in_transaction:  # a full disk has ended it already, and another ROLLBACK would be an error
                    self.rollback()
            except sqlite3.Error as broken:
                piece.error = broken


def _answer(pieces: list[_Piece]) -> None:
    for piece in pieces:
        if not piece.answered.done():
            piece.answered.set_result(None)


class WorkThread:
    """One connection, its thread, and nothing but whole pieces of work for it.

    Not for several loops. `run` of one WorkThread may be called by many: the work is done in the order of the calls.

    queued  pieces that are not done
    long    those among them that run alone
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self._path, self._read_only = path, read_only
        self._raw: StagedConnection | None = None
        self._proxy: aiosqlite.Connection | None = None
        self.queued = self.long = 0

    async def open(self) -> None:
        """Open an existing file in autocommit mode. Raises StoreError."""
        thread = self

        class Known(StagedConnection):
            def __init__(self, *args: Any, **named: Any) -> None:
                super().__init__(*args, **named)
                thread._raw = self

        uri = f"file:{quote(str(self._path))}?mode={'ro' if self._read_only else 'rw'}"
        proxy = aiosqlite.connect(uri, uri=True, factory=Known, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        try:
            self._proxy = await proxy
        except sqlite3.Error as exc:
            # aiosqlite 0.22 asks its thread to end and does not wait: its last word would find the loop closed. The
            # thread has nothing left to do, so this takes microseconds.
            proxy._thread.join()
            raise translate(exc, str(self._path)) from exc

    async def run(self, work: Callable[[sqlite3.Connection], _T], *, alone: bool = True) -> _T:
        """`work` on the connection's thread, in one hop. It may leave a transaction open, which is committed then.

        Errors of SQLite come translated, all others as they are; nothing of the transaction remains. Being cancelled
        does not stop the work, only the waiting.

        alone  False: it is short, a few rows by their key, and its answer may wait for others of its kind
        """
        raw, proxy = self._raw, self._proxy
        if raw is None or proxy is None:
            raise Unavailable("the store is not open")
        piece = _Piece(lambda: work(raw), asyncio.get_running_loop().create_future())
        self.queued += 1
        self.long += alone
        try:
            # Once it is called, commit() is on the thread's list, also if whoever called does not wait for its end.
            await (proxy.commit() if raw.stage(piece, alone=alone) else piece.answered)
        finally:
            self.queued -= 1
            self.long -= alone
        if isinstance(piece.error, sqlite3.Error):
            raise translate(piece.error, str(self._path)) from piece.error
        if piece.error is not None:
            raise piece.error
        value: _T = piece.value
        return value

    async def close(self) -> None:
        """After the work that was handed in before; the thread has ended then. Idempotent."""
        proxy, self._proxy, self._raw = self._proxy, None, None
        if proxy is not None:
            await proxy.close()
