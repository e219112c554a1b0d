"""How a command that ran or followed an instance ends: the data on stdout, the way on on stderr, the exit code."""

import shlex
import sys
from collections.abc import Mapping
from typing import TextIO

from taskengine.cli import exits
from taskengine.cli.live.board import Board
from taskengine.cli.live.painters import show_status
from taskengine.cli.local.runs import RunRecord
from taskengine.cli.output import Format, Output, json_text, write_data, write_text
from taskengine.cli.problems import say
from taskengine.cli.terminal import is_terminal
from taskengine.clock import Clock
from taskengine.model.states import InstanceState
from taskengine.wire import InstanceDetail

__all__ = ["report_end", "report_run", "show_detail"]


def report_run(detail: InstanceDetail | None, record: RunRecord, output: Output, clock: Clock) -> int:
    """Of `taskengine run`; `detail` None: somebody interrupted it before it rested."""
    if not record.dsn:
        if detail is None:
            say("The store was in memory; nothing is left to go on with.")
            return exits.INTERRUPTED
        _show_result(detail, output, clock)
        return exits.BY_STATE.get(detail.status, exits.ERROR)
    return report_end(detail, record.id, "" if record.own else f" --db {shlex.quote(record.dsn)}", output, clock)


def report_end(detail: InstanceDetail | None, instance_id: str, flags: str, output: Output, clock: Clock) -> int:
    """Without a form the results of the leaf tasks by name, else the instance with its tasks; the exit code.

    flags  what leads a later command to the same place
    """
    if detail is None:
        say(f"Go on with it:  taskengine run --resume {instance_id}{flags}")
        return exits.INTERRUPTED
    _show_result(detail, output, clock)
    match detail.status:
        case InstanceState.FAILED | InstanceState.TIMED_OUT | InstanceState.QUARANTINED:
            output.hint(f"Repeat what failed:  taskengine instance retry {instance_id}{flags}")
        case InstanceState.PAUSED:
            output.hint(f"Go on with it:  taskengine instance resume {instance_id}{flags}")
        case _:
            pass
    return exits.BY_STATE.get(detail.status, exits.ERROR)


def _show_result(detail: InstanceDetail, output: Output, clock: Clock) -> None:
    if output.form is None:
        write_text(json_text(detail.result or {}, pretty=is_terminal(sys.stdout)))
    else:
        show_detail(detail, output.form, clock)


def show_detail(detail: InstanceDetail, form: Format, clock: Clock, tries: Mapping[str, int] = {}) -> None:
    """One instance with its tasks, in the form that was asked for. `tries` by task, where they are known."""

    def table(stream: TextIO) -> None:
        board = Board.of(detail)
        for name, allowed in tries.items():
            board.allow_tries(name, allowed)
        show_status(board, clock.now_us(), stream)

    write_data(detail, form, table=table)
