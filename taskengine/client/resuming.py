"""Where a stream has got to, so that after a cut it goes on without a hole and without anything twice. Pure."""

from collections import OrderedDict
from typing import Final, Protocol, TypeVar

import msgspec

from taskengine.wire.frames import (
    FRAME_DECODER,
    HeartbeatFrame,
    InstanceStatus,
    Snapshot,
    StreamFrame,
    TaskStatus,
)
from taskengine.wire.instances import LogLine

__all__ = ["FramePlace", "LogPlace", "Place"]

T_co = TypeVar("T_co", covariant=True)

KEPT: Final = 10_000
"""Instances of which a stream over many remembers the last number."""

_LINE: Final = msgspec.json.Decoder(LogLine)


class Place(Protocol[T_co]):
    """What a stream has passed on so far."""

    def query(self) -> dict[str, object]:
        """What to ask for, to get what comes next."""
        ...

    def reopened(self) -> None:
        """A new connection begins."""
        ...

    def take(self, data: bytes) -> T_co | None:
        """One message; None for what was passed on before. Raises msgspec.DecodeError."""
        ...


class _Passed:
    """How many frames of the number `seq` were passed on; `connection` is the one that `position` counts on."""

    __slots__ = ("closed", "connection", "count", "position", "seq")

    def __init__(self, seq: int, connection: int, *, closed: bool = False) -> None:
        self.seq, self.connection, self.closed = seq, connection, closed
        self.count = self.position = 0


class FramePlace:
    """Of a WebSocket. `since` counts for one instance and is a number, over many it is a cursor.

    It moves only with the last frame of a number. A cut in the middle of a number brings that number again from its
    beginning, so the frames of it that were passed on are counted, and passed over the second time.
    """

    def __init__(self, since: int | str | None, instance_id: str | None) -> None:
        self._instance_id = instance_id
        self._since = since
        self._connection = 0
        self._passed: OrderedDict[str, _Passed] = OrderedDict()
        self._open_number = False
        if instance_id is not None and isinstance(since, int):
            self._passed[instance_id] = _Passed(since, 0, closed=True)

    def query(self) -> dict[str, object]:
        return {} if self._since is None else {"since": self._since}

    def reopened(self) -> None:
        self._connection += 1

    def take(self, data: bytes) -> StreamFrame | None:
        frame: StreamFrame = FRAME_DECODER.decode(data)
        match frame:
            case InstanceStatus() | TaskStatus():
                fresh = self._is_fresh(frame)
                self._advance(frame)
                return frame if fresh else None
            case Snapshot():
                self._restart(frame)
            case HeartbeatFrame(cursor=str(cursor)) if not self._open_number:
                self._since = cursor
        return frame

    def _is_fresh(self, frame: InstanceStatus | TaskStatus) -> bool:
        passed = self._passed.get(frame.instance_id)
        if passed is None or frame.seq > passed.seq:
            passed = self._remember(frame.instance_id, _Passed(frame.seq, self._connection))
        elif frame.seq < passed.seq or passed.closed:
            return False
        if passed.connection != self._connection:
            passed.connection, passed.position = self._connection, 0
        passed.position += 1
        fresh = passed.position > passed.count
        passed.count = max(passed.count, passed.position)
        passed.closed = not frame.more
        return fresh

    def _advance(self, frame: InstanceStatus | TaskStatus) -> None:
        self._open_number = frame.more
        if frame.more:
            return
        if self._instance_id is None:
            self._since = frame.cursor or self._since
        else:
            self._since = max(frame.seq, self._since if isinstance(self._since, int) else 0)

    def _restart(self, snapshot: Snapshot) -> None:
        """What follows is newer than the snapshot, and what it tells need not be told again."""
        self._open_number = False
        if snapshot.cursor is not None and self._instance_id is None:
            self._since = snapshot.cursor
        if snapshot.seq is not None and self._instance_id is not None:
            passed = self._passed.get(self._instance_id)
            if passed is None or passed.seq <= snapshot.seq:
                self._remember(self._instance_id, _Passed(snapshot.seq, self._connection, closed=True))
                self._since = snapshot.seq

    def _remember(self, instance_id: str, passed: _Passed) -> _Passed:
        self._passed[instance_id] = passed
        self._passed.move_to_end(instance_id)
        if len(self._passed) > KEPT:
            self._passed.popitem(last=False)
        return passed


class LogPlace:
    """Of stored log lines, by their ids."""

    def __init__(self, since: int, task: str | None) -> None:
        self._since, self._task = since, task

    def query(self) -> dict[str, object]:
        return {"follow": True, "task": self._task, "since": self._since or None}

    def reopened(self) -> None:
        pass

    def take(self, data: bytes) -> LogLine | None:
        line = _LINE.decode(data)
        if line.id <= self._since:
            return None
        self._since = line.id
        return line
