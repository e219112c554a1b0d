"""How a command that ran an instance ends: the data on stdout, the way on on stderr, the exit code."""

import shlex
import sys

from taskengine.cli import exits
from taskengine.cli.detail import instance_detail
from taskengine.cli.live.board import Board, Header
from taskengine.cli.live.painters import show_status
from taskengine.cli.local.runs import RunRecord
from taskengine.cli.local.work import Ending
from taskengine.cli.output import Format, json_text, write_data, write_text
from taskengine.cli.problems import say
from taskengine.cli.terminal import is_terminal
from taskengine.clock import Clock
from taskengine.model.ids import InstanceId
from taskengine.model.states import InstanceState

__all__ = ["report_ending", "show_ending"]


def report_ending(ending: Ending, record: RunRecord, form: Format | None, clock: Clock) -> int:
    """Without a form the results of the leaf tasks by name, else the instance with its tasks; the exit code."""
    resume = _resume_line(record)
    if ending.view is None:
        say(f"Go on with it:  {resume}" if resume else "The store was in memory; nothing is left to go on with.")
        return exits.INTERRUPTED
    if form is None:
        write_text(json_text(dict(ending.result), pretty=is_terminal(sys.stdout)))
    else:
        show_ending(ending, form, clock)
    if resume:
        _say_next(ending.view.status, record.id, resume)
    return exits.BY_STATE.get(ending.view.status, exits.ERROR)


def show_ending(ending: Ending, form: Format, clock: Clock) -> None:
    """The instance with its tasks, on stdout."""
    view = ending.view
    assert view is not None, "only an instance that was looked at can be shown"
    write_data(
        instance_detail(view, ending.tasks, ending.result),
        form,
        table=lambda stream: show_status(Board(Header(view), ending.tasks), clock.now_us(), stream),
    )


def _resume_line(record: RunRecord) -> str:
    """The command that goes on with it; empty when the store ends with the process."""
    if not record.dsn:
        return ""
    return f"taskengine run --resume {record.id}" + ("" if record.own else f" --db {shlex.quote(record.dsn)}")


def _say_next(state: InstanceState, instance_id: InstanceId, resume: str) -> None:
    match state:
        case InstanceState.FAILED | InstanceState.TIMED_OUT | InstanceState.QUARANTINED:
            say(f"Repeat what failed:  taskengine instance retry {instance_id}")
        case InstanceState.PAUSED:
            say(f"Go on with it:  {resume}")
        case _:
            pass
