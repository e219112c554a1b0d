"""What `taskengine instance watch` does, and `workflow execute --follow`: the picture of `run`, from outside."""

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.live.board import Board
from taskengine.cli.live.interrupts import interrupts_cancel
from taskengine.cli.live.painters import make_painter, show_end
from taskengine.cli.live.watching import AT_END, log_frame, watch
from taskengine.cli.options import Where
from taskengine.cli.output import Output
from taskengine.cli.problems import say
from taskengine.cli.targets.choosing import choose_for
from taskengine.cli.targets.interface import Target
from taskengine.cli.terminal import is_animated
from taskengine.cli.verbs.report import report_end
from taskengine.errors import Conflict, WaitTimeout
from taskengine.wire import InstanceDetail, TaskBody

__all__ = ["Since", "follow", "say_detached", "watch_instance"]


class Since(msgspec.Struct, frozen=True):
    """A moment in the life of an instance.

    tasks  as they were then
    line   id of the newest log line then, 0: none
    """

    tasks: Sequence[TaskBody] = ()
    line: int = 0


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """How to follow. `logs_since` is the id of a log line; None: those from now on."""

    logs: bool
    quiet: bool
    timeout_s: float | None
    logs_since: int | None


def watch_instance(
    ambient: Ambient | None, prefix: str, *, logs: bool, timeout_s: float | None, where: Where, output: Output
) -> int:
    """Until it has ended. Returns the exit code of its state."""
    ambient = ambient or Ambient()
    with choose_for(where, prefix, ambient) as (target, instance_id):
        return follow(ambient, target, instance_id, logs=logs, timeout_s=timeout_s, output=output)


def follow(
    ambient: Ambient,
    target: Target,
    instance_id: str,
    *,
    logs: bool,
    output: Output,
    timeout_s: float | None = None,
    since: Since | None = None,
) -> int:
    """Show it on stderr until it has ended, then its results on stdout; Ctrl-C leaves it alone.

    logs   show what tasks log, too
    since  what counts as news; None: what happens from now on
    Raises WaitTimeout, and Conflict where nobody works on it.
    """
    watching = Watching(
        logs=logs, quiet=output.quiet, timeout_s=timeout_s, logs_since=None if since is None else since.line
    )
    try:
        detail = _watched(ambient, target, instance_id, watching, since)
    except KeyboardInterrupt:  # before or after the picture, which hears it by itself
        detail = None
    if detail is None:
        return say_detached(target, instance_id)
    return report_end(detail, instance_id, target.flags, output, ambient.clock)


def _watched(
    ambient: Ambient, target: Target, instance_id: str, watching: Watching, since: Since | None
) -> InstanceDetail | None:
    """The instance as it ended; None when somebody interrupted the watching."""
    detail = target.detail(instance_id)
    board = Board.of(detail) if since is None else Board(detail, since.tasks)
    if board.header.state in AT_END:
        _catch_up(ambient, target, board, detail, watching)
    else:
        if target.is_abandoned(instance_id):
            raise Conflict(f"no process runs {instance_id} now; go on with it: taskengine run --resume {instance_id}")
        for name, tries in target.tries_allowed(detail).items():
            board.allow_tries(name, tries)
        if not asyncio.run(_until_end(ambient, target, board, watching)):
            return None
        detail = target.detail(instance_id)
        _tell_news(ambient, board, detail, watching)
    if not watching.quiet:
        show_end(board, ambient.clock.now_us(), sys.stderr)
    return detail


def say_detached(target: Target, instance_id: str) -> int:
    """The words and the exit code for somebody who has seen enough."""
    say(f"Detached; the instance goes on. Watch it again:  taskengine instance watch {instance_id}{target.flags}")
    return exits.INTERRUPTED


def _catch_up(ambient: Ambient, target: Target, board: Board, detail: InstanceDetail, watching: Watching) -> None:
    """It was quicker than the watching: tell what there would have been to see."""
    if watching.logs and watching.logs_since is not None:
        painter = make_painter(sys.stderr, quiet=watching.quiet)
        for line in target.logs(detail.id, task=None, since=watching.logs_since, tail=None):
            painter.log(log_frame(line, detail.workflow_id))
    _tell_news(ambient, board, detail, watching)


def _tell_news(ambient: Ambient, board: Board, detail: InstanceDetail, watching: Watching) -> None:
    """What the picture did not have yet."""
    if news := board.load(detail, detail.tasks):
        make_painter(sys.stderr, quiet=watching.quiet).changed(board, news, ambient.clock.now_us())


async def _until_end(ambient: Ambient, target: Target, board: Board, watching: Watching) -> bool:
    """False when somebody interrupted the watching. A second interrupt ends the process at once."""
    task = asyncio.current_task()
    assert task is not None
    instance_id, timeout_s = board.header.instance_id, watching.timeout_s
    painter = make_painter(sys.stderr, quiet=watching.quiet)
    with interrupts_cancel(task, drawing=is_animated(sys.stderr)) as interrupts:
        try:
            feeding = target.feed(instance_id, logs=watching.logs, logs_since=watching.logs_since)
            async with asyncio.timeout(timeout_s), feeding as feed:
                with painter.showing():
                    await watch(feed, board, painter, ambient.clock, logs=watching.logs, rest=AT_END)
        except TimeoutError:
            raise WaitTimeout(
                f"instance {instance_id} is {board.header.state} and did not end within {timeout_s:g} s; it goes on"
            ) from None
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
            task.uncancel()
            return False
    return True
