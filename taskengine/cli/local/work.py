"""Running an engine in this process for one instance: start, watch, stop; and what Ctrl-C does meanwhile."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli.live.board import Board
from taskengine.cli.live.interrupts import interrupts_cancel
from taskengine.cli.live.painters import make_painter, show_end
from taskengine.cli.live.watching import watch
from taskengine.cli.local.listening import BusFeed, look_at
from taskengine.cli.problems import say
from taskengine.cli.terminal import is_animated
from taskengine.clock import Clock
from taskengine.engine.builder import EngineBuilder
from taskengine.engine.engine import Engine
from taskengine.model.ids import InstanceId
from taskengine.model.pools import parse_pool
from taskengine.wire import InstanceDetail

__all__ = ["Change", "Ending", "Watching", "change_once", "make_builder", "work"]

Change = Callable[[Engine, InstanceId], Awaitable[object]]
"""Gets the instance going, or changes it; called once on the started engine."""


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow and how.

    tries_allowed  by task name: attempts that the definition allows
    logs           show what jobs log
    quiet          show nothing
    """

    instance_id: InstanceId
    tries_allowed: Mapping[str, int] = {}
    logs: bool = False
    quiet: bool = False


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How the instance was when it came to rest; None when somebody interrupted it before."""

    detail: InstanceDetail | None = None


def make_builder(
    ambient: Ambient, dsn: str, apps: Sequence[str], workers: int | None, pools: Sequence[str] = ()
) -> EngineBuilder:
    """A builder with the job files loaded; pools as `api=5@50/s`. Raises InvalidConfiguration, NotSupportedYet."""
    builder = EngineBuilder(ambient).with_store(dsn).with_entry_points()
    if workers is not None:
        builder.with_workers(workers)
    builder.with_pools(map(parse_pool, pools))
    for app in apps:
        builder.with_app(app)
    return builder


async def work(builder: EngineBuilder, begin: Change, watching: Watching, clock: Clock) -> Ending:
    """Run the engine until the instance rests, showing it on stderr; the final table is always shown.

    The engine is stopped on every way out. Raises what the engine raises when it cannot go on.
    """
    task = asyncio.current_task()
    assert task is not None
    fatal: list[BaseException] = []

    def on_fatal(error: BaseException) -> None:
        fatal.append(error)
        task.cancel()

    engine = builder.with_on_fatal(on_fatal).build()
    board: list[Board] = []
    with interrupts_cancel(task, drawing=is_animated(sys.stderr)) as interrupts:
        feed = BusFeed(engine, watching.instance_id, clock)
        try:
            ending = await _until_rest(engine, begin, watching, feed, board, clock)
        except asyncio.CancelledError:
            if fatal:
                say("The engine cannot go on. What was committed is safe; `taskengine run --resume` goes on with it.")
                raise fatal[0] from None
            if not interrupts.count:
                raise
            task.uncancel()
            say("Interrupted; saving the work. Ctrl-C again leaves at once.")
            await engine.stop()
            ending = Ending()
        finally:
            await engine.stop()
        if not watching.quiet:
            _show_last(board, feed, clock)
    return ending


async def change_once(builder: EngineBuilder, instance_id: InstanceId, change: Change) -> Ending:
    """Change an instance without taking up its work, wait until it rests, and stop."""
    async with builder.with_recovery(False).build() as engine:
        await change(engine, instance_id)
        await engine.wait_until_resting(instance_id)
        return Ending(detail=await look_at(engine, instance_id))


async def _until_rest(
    engine: Engine, begin: Change, watching: Watching, feed: BusFeed, board: list[Board], clock: Clock
) -> Ending:
    """`board` gets the one board: it is shown at the end, also of an interrupted run."""
    instance_id, painter = watching.instance_id, make_painter(sys.stderr, quiet=watching.quiet)
    # From the beginning: what jobs print must not get between the lines of the table.
    with painter.showing():
        await engine.start()
        await begin(engine, instance_id)
        board.append(Board.of(await look_at(engine, instance_id)))
        for name, tries in watching.tries_allowed.items():
            board[0].allow_tries(name, tries)
        await watch(feed, board[0], painter, clock, logs=watching.logs)
    return Ending(detail=await look_at(engine, instance_id))


def _show_last(board: Sequence[Board], feed: BusFeed, clock: Clock) -> None:
    """The final table, with what happened while the engine stopped."""
    for each in board:
        each.apply(feed.rest())
        show_end(each, clock.now_us(), sys.stderr)
