"""What `taskengine instance list`, `history`, `status` and `events` do: committed state, looked at."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from taskengine.ambient import Ambient
from taskengine.cli.listing import show_table
from taskengine.cli.live.status import span_text
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data
from taskengine.cli.targets.choosing import choose, choose_for
from taskengine.cli.targets.interface import Target, Wanted
from taskengine.cli.verbs.report import show_detail
from taskengine.clock import Clock
from taskengine.errors import InvalidConfiguration
from taskengine.model.durations import parse_duration
from taskengine.model.spelling import did_you_mean, quoted
from taskengine.model.states import InstanceState
from taskengine.wire import InstanceBody, InstanceStatus, StreamFrame, TaskStatus

__all__ = ["list_instances", "say_if_left_lying", "show_events", "show_history", "show_instance", "time_text"]

_LIVE: Final = (InstanceState.PENDING, InstanceState.RUNNING)
_HEADS: Final = ("ID", "WORKFLOW", "STATUS", "PROGRESS", "STARTED (UTC)", "DURATION")
_EVENT_HEADS: Final = ("SEQ", "TIME (UTC)", "TASK", "STATUS", "ATTEMPT", "MOVE", "REASON")


def list_instances(
    ambient: Ambient | None,
    *,
    statuses: Sequence[str],
    workflow: str | None,
    labels: Sequence[str],
    since: str,
    search: str,
    limit: int,
    where: Where,
    output: Output,
) -> None:
    """Newest first. Raises InvalidConfiguration for an option that says nothing."""
    ambient = ambient or Ambient()
    wanted = Wanted(
        statuses=tuple(state_of(status).value for status in statuses),
        workflow_id=workflow,
        labels=dict(_label(label) for label in labels),
        since=_since(since, ambient.clock) if since else None,
        search=search,
    )
    with choose(where, ambient) as target:
        _list(target, wanted, limit, output)


def show_history(
    ambient: Ambient | None, workflow_id: str, *, statuses: Sequence[str], limit: int, where: Where, output: Output
) -> None:
    """The instances of one workflow, the newest first. Raises NotFound when nobody knows the workflow."""
    wanted = Wanted(statuses=tuple(state_of(status).value for status in statuses), workflow_id=workflow_id)
    with choose(where, ambient) as target:
        if target.shared:
            target.versions(workflow_id)  # a workflow without instances is no mistake, an unknown one is
        _list(target, wanted, limit, output)


def show_instance(ambient: Ambient | None, prefix: str, *, where: Where, output: Output) -> None:
    """The instance whose id begins so, with its tasks."""
    ambient = ambient or Ambient()
    with choose_for(where, prefix, ambient) as (target, instance_id):
        detail = target.detail(instance_id)
        form = output.form or Format.TABLE
        tries = target.tries_allowed(detail) if form is Format.TABLE else {}
        show_detail(detail, form, ambient.clock, tries)
        if form is Format.TABLE:
            _say_what_is_left_lying(target, [detail], output)


def show_events(ambient: Ambient | None, prefix: str, *, where: Where, output: Output) -> None:
    """Everything that was committed about an instance, in its order."""
    with choose_for(where, prefix, ambient) as (target, instance_id):
        frames = list(target.events(instance_id))
    write_data(
        frames,
        output.form or Format.TABLE,
        table=lambda stream: show_table(
            _EVENT_HEADS, [_event_row(frame) for frame in frames], stream, headers=output.headers
        ),
        key="seq",
    )


def time_text(at: datetime | None) -> str:
    """To the minute, UTC; "" for none."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _list(target: Target, wanted: Wanted, limit: int, output: Output) -> None:
    found = target.instances(wanted, limit)
    form = output.form or Format.TABLE
    if form is Format.TABLE and not found:
        start = "taskengine workflow execute WORKFLOW_ID" if target.lasts else "taskengine run FILE"
        output.hint(f"There are no such instances ({target.place}). Start one:  {start}")
        return
    write_data(
        found,
        form,
        table=lambda stream: show_table(_HEADS, [_row(body) for body in found], stream, headers=output.headers),
    )
    if form is Format.TABLE:
        _say_what_is_left_lying(target, found, output)


def _say_what_is_left_lying(target: Target, found: Sequence[InstanceBody], output: Output) -> None:
    for body in found:
        say_if_left_lying(target, body.id, body.status, output)


def say_if_left_lying(target: Target, instance_id: str, status: str, output: Output) -> None:
    """A run whose process died is Running, as far as its store knows, until somebody goes on with it."""
    if status in _LIVE and target.is_abandoned(instance_id):
        output.hint(f"No process runs {instance_id} now. Go on with it:  taskengine run --resume {instance_id}")


def _row(body: InstanceBody) -> list[str]:
    progress = body.progress
    return [
        body.id,
        body.workflow_id,
        body.status,
        f"{progress.total - progress.running - progress.pending}/{progress.total}",
        time_text(body.started_at),
        "" if body.duration is None else span_text(round(body.duration * 1_000_000)),
    ]


def _event_row(frame: StreamFrame) -> list[str]:
    match frame:
        case TaskStatus():
            return [
                str(frame.seq),
                _moment(frame.timestamp),
                frame.task_id,
                frame.status,
                str(frame.attempt or ""),
                frame.move,
                frame.error or "",
            ]
        case InstanceStatus():
            return [str(frame.seq), _moment(frame.timestamp), "", frame.status, "", "", frame.error or ""]
        case _:
            return ["", "", "", "", "", "", ""]


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def state_of(typed: str) -> InstanceState:
    """A state as somebody types it, in any case. Raises InvalidConfiguration."""
    states = {state.value.lower(): state for state in InstanceState}
    if typed.lower() in states:
        return states[typed.lower()]
    names = [state.value for state in InstanceState]
    hint = did_you_mean(typed, names) or f"; there are {', '.join(names)}"
    raise InvalidConfiguration(f"--status: there is no state {quoted(typed)}{hint}")


def _label(typed: str) -> tuple[str, str]:
    name, equals, value = typed.partition("=")
    if not equals or not name:
        raise InvalidConfiguration(f"--label: write it as name=value, got {quoted(typed)}")
    return name, value


def _since(typed: str, clock: Clock) -> datetime:
    """A span back from now, or a moment; one without a zone is UTC, as all times that are shown."""
    if re.match(r"\d{4}-", typed):
        try:
            at = datetime.fromisoformat(typed)
        except ValueError as error:
            raise InvalidConfiguration(f"--since: {error}") from None
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    try:
        span_us = parse_duration(typed)
    except ValueError as error:
        raise InvalidConfiguration(f"--since: {error}; or a time as 2026-07-31T08:00Z") from None
    return datetime.fromtimestamp(clock.now_us() / 1_000_000, UTC) - timedelta(microseconds=span_us)
