"""What `taskengine instance watch` does, and `workflow execute --follow`: the picture of `run`, from outside."""

import asyncio
import sys

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.live.board import Board
from taskengine.cli.live.interrupts import interrupts_cancel
from taskengine.cli.live.painters import make_painter, show_end
from taskengine.cli.live.watching import AT_END, watch
from taskengine.cli.options import Where
from taskengine.cli.output import Output
from taskengine.cli.problems import say
from taskengine.cli.targets.choosing import choose_for
from taskengine.cli.targets.interface import Target
from taskengine.cli.terminal import is_animated
from taskengine.cli.verbs.report import report_end
from taskengine.errors import Conflict, WaitTimeout

__all__ = ["follow", "say_detached", "watch_instance"]


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
) -> int:
    """Show it on stderr until it has ended, then its results on stdout; Ctrl-C leaves it alone.

    logs  show what tasks log, too
    Raises WaitTimeout, and Conflict where nobody works on it.
    """
    board = Board.of(target.detail(instance_id))
    if board.header.state not in AT_END:
        if target.is_abandoned(instance_id):
            raise Conflict(f"no process runs {instance_id} now; go on with it: taskengine run --resume {instance_id}")
        for name, tries in target.tries_allowed(target.detail(instance_id)).items():
            board.allow_tries(name, tries)
        if not asyncio.run(_until_end(ambient, target, board, logs=logs, quiet=output.quiet, timeout_s=timeout_s)):
            return say_detached(target, instance_id)
    if not output.quiet:
        show_end(board, ambient.clock.now_us(), sys.stderr)
    return report_end(target.detail(instance_id), instance_id, target.flags, output, ambient.clock)


def say_detached(target: Target, instance_id: str) -> int:
    """The words and the exit code for somebody who has seen enough."""
    say(f"Detached; the instance goes on. Watch it again:  taskengine instance watch {instance_id}{target.flags}")
    return exits.INTERRUPTED


async def _until_end(
    ambient: Ambient, target: Target, board: Board, *, logs: bool, quiet: bool, timeout_s: float | None
) -> bool:
    """False when somebody interrupted the watching. A second interrupt ends the process at once."""
    task = asyncio.current_task()
    assert task is not None
    painter = make_painter(sys.stderr, quiet=quiet)
    with interrupts_cancel(task, drawing=is_animated(sys.stderr)) as interrupts:
        try:
            async with asyncio.timeout(timeout_s), target.feed(board.header.instance_id) as feed:
                with painter.showing():
                    await watch(feed, board, painter, ambient.clock, logs=logs, rest=AT_END)
        except TimeoutError:
            state = board.header.state
            raise WaitTimeout(
                f"instance {board.header.instance_id} is {state} and did not end within {timeout_s:g} s; it goes on"
            ) from None
        except asyncio.CancelledError:
            if not interrupts.count:
                raise
            task.uncancel()
            return False
    return True
