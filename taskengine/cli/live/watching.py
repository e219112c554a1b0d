"""Following an instance, wherever its news come from, until it rests."""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from taskengine.cli.live.board import Board
from taskengine.clock import Clock
from taskengine.model.states import INSTANCE_FINAL, InstanceState
from taskengine.wire import LogLine, LogUpdate, StreamFrame

if TYPE_CHECKING:
    from taskengine.cli.live.painters import Painter

__all__ = ["AT_END", "AT_REST", "PATIENCE_S", "Feed", "log_frame", "watch"]

AT_END: Final = INSTANCE_FINAL | {InstanceState.QUARANTINED}
"""States that only a command of somebody can leave, and that have an exit code."""

AT_REST: Final = AT_END | {InstanceState.PAUSED}
"""States in which nothing more happens by itself."""

PATIENCE_S: Final = 1.0
"""How long a feed may wait for news: the elapsed time goes on meanwhile."""

_FRAME_S: Final = 0.1


class Feed(Protocol):
    """News of one instance."""

    async def news(self) -> list[StreamFrame]:
        """What has come since the last call; waits for it, at most `PATIENCE_S`. Empty: nothing is new.

        Where something was lost there is a snapshot. Raises when there will be no more news.
        """
        ...


async def watch(
    feed: Feed, board: Board, painter: "Painter", clock: Clock, *, logs: bool, rest: Collection[InstanceState] = AT_REST
) -> None:
    """Keep the board and its painter up to date, at most ten times a second, until the instance rests.

    logs  show what jobs log
    Raises what the feed raises.
    """
    painter.paint(board, clock.now_us())
    while board.header.state not in rest:
        for group in _groups(await feed.news()):
            _take(group, board, painter, clock, logs=logs)
        painter.paint(board, clock.now_us())
        if board.header.state not in rest:
            await clock.sleep(_FRAME_S)


def log_frame(line: LogLine, workflow_id: str) -> LogUpdate:
    """A stored line as a stream would have said it."""
    return LogUpdate(
        instance_id=line.instance_id,
        workflow_id=workflow_id,
        task_id=line.task,
        attempt=line.attempt,
        level=line.level,
        message=line.message,
        timestamp=line.at,
    )


def _take(group: list[StreamFrame], board: Board, painter: "Painter", clock: Clock, *, logs: bool) -> None:
    if logs:
        for frame in group:
            if isinstance(frame, LogUpdate):
                painter.log(frame)
    if lines := board.apply(group):
        painter.changed(board, lines, clock.now_us())


def _groups(frames: Iterable[StreamFrame]) -> Iterator[list[StreamFrame]]:
    """Frames of one number together: a short task makes two moves in one event, and is one line of news."""
    group: list[StreamFrame] = []
    for frame in frames:
        group.append(frame)
        if not getattr(frame, "more", False):
            yield group
            group = []
    if group:
        yield group
