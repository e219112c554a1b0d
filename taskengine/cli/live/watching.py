"""Following an instance on the bus until it has come to an end, a pause or a quarantine."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from taskengine.bus import Gap, LogFrame, Subscription
from taskengine.cli.live.board import Board, Header
from taskengine.cli.live.painters import Painter
from taskengine.clock import Clock
from taskengine.engine.engine import Engine
from taskengine.model.ids import InstanceId
from taskengine.model.states import INSTANCE_FINAL, InstanceState

__all__ = ["AT_REST", "make_board", "watch"]

AT_REST: Final = INSTANCE_FINAL | {InstanceState.PAUSED, InstanceState.QUARANTINED}
"""States in which nothing more happens by itself."""

_FRAME_S: Final = 0.1
_IDLE_S: Final = 1.0


async def make_board(engine: Engine, instance_id: InstanceId, tries_allowed: Mapping[str, int]) -> Board:
    """A board from what is committed. `tries_allowed` by task name, where it is known."""
    board = Board(Header(await engine.get_instance(instance_id)), await engine.get_tasks(instance_id))
    for name, tries in tries_allowed.items():
        board.allow_tries(name, tries)
    return board


async def watch(
    engine: Engine, board: Board, frames: Subscription, painter: Painter, clock: Clock, *, logs: bool
) -> None:
    """Keep the board and its painter up to date, at most ten times a second, until the instance rests.

    frames  of this instance alone, subscribed to before the board was made
    logs    show what jobs log
    Raises Unavailable when the engine ends before.
    """
    painter.paint(board, clock.now_us())
    while True:
        await _news(frames)
        gap = _take(board, frames, painter, clock, logs=logs)
        if gap or frames.closed:
            await _reload(engine, board)
        painter.paint(board, clock.now_us())
        if board.header.state in AT_REST:
            return
        await clock.sleep(_FRAME_S)


async def _news(frames: Subscription) -> None:
    """Until there is a frame; at most a second, because the elapsed time goes on."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_IDLE_S):
            await frames.wait()


def _take(board: Board, frames: Subscription, painter: Painter, clock: Clock, *, logs: bool) -> bool:
    """Everything that is there goes to the board; returns whether something was lost."""
    gap = False
    for frame in frames.drain():
        if isinstance(frame, Gap):
            gap = True
        elif isinstance(frame, LogFrame):
            if logs:
                painter.log(frame)
        else:
            painter.changed(board, board.apply(frame), clock.now_us())
    return gap


async def _reload(engine: Engine, board: Board) -> None:
    """After a loss: what is committed is the truth."""
    instance_id = board.header.instance_id
    board.load(Header(await engine.get_instance(instance_id)), await engine.get_tasks(instance_id))
