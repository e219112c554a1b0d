"""What `taskengine instance logs` does."""

import sys
from collections.abc import Iterable
from datetime import UTC
from itertools import chain
from typing import TextIO

from rich.text import Text

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.live.painters import LEVEL_COLOURS
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, json_text, write_data, write_text
from taskengine.cli.safe import clean, clean_lines
from taskengine.cli.targets.choosing import choose_for
from taskengine.cli.targets.interface import Target
from taskengine.cli.terminal import make_console
from taskengine.cli.verbs.following import say_detached
from taskengine.cli.verbs.tasks import must_have_task
from taskengine.wire import LogLine

__all__ = ["show_logs"]


def show_logs(
    ambient: Ambient | None,
    prefix: str,
    *,
    follow: bool,
    task: str | None,
    tail: int | None,
    since: int,
    where: Where,
    output: Output,
) -> int:
    """The stored lines; with `follow` also those that come, until the instance has ended."""
    with choose_for(where, prefix, ambient) as (target, instance_id):
        if task is not None:
            must_have_task(target, instance_id, task)
        if not follow:
            lines = target.logs(instance_id, task=task, since=since, tail=tail)
            write_data(lines, output.form or Format.TABLE, table=lambda stream: _print(lines, stream))
            return exits.OK
        try:
            _print_each(_coming(target, instance_id, task, since, tail), output.form or Format.TABLE)
        except KeyboardInterrupt:
            return say_detached(target, instance_id)
    return exits.OK


def _coming(target: Target, instance_id: str, task: str | None, since: int, tail: int | None) -> Iterable[LogLine]:
    if tail is None:
        return target.follow_logs(instance_id, task=task, since=since)
    last = target.logs(instance_id, task=task, since=since, tail=max(tail, 1))
    shown = last if tail else []
    return chain(shown, target.follow_logs(instance_id, task=task, since=last[-1].id if last else since))


def _print_each(lines: Iterable[LogLine], form: Format) -> None:
    """JSON comes line by line: a list would have no end."""
    for line in lines:
        match form:
            case Format.TABLE:
                _print([line], sys.stdout)
                sys.stdout.flush()
            case Format.ID:
                write_text(str(line.id))
            case Format.JSON | Format.JSONL:
                write_text(json_text(line))
            case Format.YAML:
                write_data([line], form, table=lambda stream: None)


def _print(lines: Iterable[LogLine], stream: TextIO) -> None:
    console = make_console(stream)
    for line in lines:
        console.print(_text(line), soft_wrap=True)


def _text(line: LogLine) -> Text:
    """Time (UTC), task, level and message; further lines of the message are indented."""
    colour = LEVEL_COLOURS.get(line.level, "")
    at = line.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    first, *more = clean_lines(line.message).rstrip("\n").split("\n")
    task = clean(line.task) + (f"#{line.attempt}" if line.attempt > 1 else "")
    text = Text.assemble((at, "dim"), "  ", (task, "bold"), f"  {line.level:<7}  ", (first, colour))
    for rest in more:
        text.append(f"\n    {rest}", colour)
    return text
