"""One process per database file: a lock that the kernel takes back when its holder dies."""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from taskengine.errors import StoreLocked

__all__ = ["FileLock", "Holder", "holder_of", "is_locked"]


class Holder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The note beside a lock, for people and for the command line. It proves nothing: only the lock does.

    host     the machine, where it could be another one; empty: this one
    address  where the holder serves, empty: nowhere (yet)
    """

    pid: int = 0
    host: str = ""
    address: str = ""

    @classmethod
    def here(cls, address: str = "", *, host: str = "") -> "Holder":
        """This process."""
        return cls(pid=os.getpid(), host=host, address=address)

    def note(self) -> str:
        """As it is stored."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, note: bytes) -> "Holder":
        """What a note says; one that cannot be read says nothing."""
        try:
            return _NOTE.decode(note)
        except msgspec.DecodeError:  # empty, or its holder is just writing it
            return cls()

    def __str__(self) -> str:
        who = f"pid {self.pid}" if self.pid else "pid unknown"
        who = f"{who} on {self.host}" if self.host else who
        return f"{who}, {self.address}" if self.address else who


_NOTE: Final = msgspec.json.Decoder(Holder)
_NOTE_LIMIT: Final = 4096


class FileLock:
    """The lock of `<file>.lock`. The lock file is never removed: whoever waits on it holds the same one."""

    def __init__(self, guarded: Path) -> None:
        self.guarded = guarded
        self.path = guarded.with_name(guarded.name + ".lock")
        self._fd = -1

    def acquire(self) -> None:
        """Take it at once, or raise StoreLocked. Not inherited by programs that this process starts."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # flock and not POSIX locks: those are lost as soon as anything in the process closes the file.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(fd)
            os.close(fd)
            raise StoreLocked(str(self.guarded), str(holder)) from None
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self.note("")

    def note(self, address: str) -> None:
        """Tell in the file who holds it and where that one serves. Only while it is held."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, Holder.here(address).note().encode(), 0)

    def release(self) -> None:
        """Idempotent; also when it was never taken."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


def holder_of(guarded: Path) -> Holder:
    """What the note of a lock says, without touching the lock: for showing, never for deciding who may write."""
    try:
        fd = os.open(guarded.with_name(guarded.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Holder()
    try:
        return _read(fd)
    finally:
        os.close(fd)


def is_locked(guarded: Path) -> bool:
    """Whether somebody has the lock. Asked with a shared lock, which is given back at once: two who ask do not see each
    other."""
    try:
        fd = os.open(guarded.with_name(guarded.name + ".lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _read(fd: int) -> Holder:
    return Holder.read(os.pread(fd, _NOTE_LIMIT, 0))
