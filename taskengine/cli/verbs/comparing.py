"""What `taskengine instance diff` does: in what two instances differ, field by field."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli.listing import show_table
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data
from taskengine.cli.targets.choosing import choose_for
from taskengine.wire import InstanceDetail, TaskBody

__all__ = ["Difference", "differences", "show_differences"]

_HEADS: Final = ("TASK", "FIELD", "A", "B")
_WHOLE: Final = ("workflow_id", "version", "status", "error_message")
_SHOWN: Final = 60
_ABSENT: Final = "absent"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One field that is not the same. `task` null: it is one of the instance."""

    task: str | None
    field: str
    a: Any
    b: Any


def show_differences(ambient: Ambient | None, prefix: str, other: str, *, where: Where, output: Output) -> None:
    """Of two instances that the same target knows. Times and spans are not compared: they always differ."""
    with choose_for(where, prefix, ambient) as (target, instance_id):
        second = target.find(other)
        found = list(differences(target.detail(instance_id), target.detail(second)))
    write_data(
        found,
        output.form or Format.TABLE,
        table=lambda stream: show_table(_HEADS, [_row(each) for each in found], stream, headers=output.headers),
        key="task",
    )
    if not found:
        output.hint("No difference.")


def differences(a: InstanceDetail, b: InstanceDetail) -> Iterator[Difference]:
    """Those of the instances, then those of the tasks in the order of A, and at last of the tasks that only B has."""
    for field in _WHOLE:
        yield from _differing(None, field, getattr(a, field), getattr(b, field))
    for name in dict.fromkeys([*a.params, *b.params]):
        if name in a.params and name in b.params:
            yield from _differing(None, f"params.{name}", a.params[name], b.params[name])
        else:
            mine, other = a.params.get(name, _ABSENT), b.params.get(name, _ABSENT)
            yield Difference(task=None, field=f"params.{name}", a=mine, b=other)
    tasks_a, tasks_b = ({task.name: task for task in detail.tasks} for detail in (a, b))
    for name in dict.fromkeys([*tasks_a, *tasks_b]):
        facts_a, facts_b = _facts(tasks_a.get(name)), _facts(tasks_b.get(name))
        for field in dict.fromkeys([*facts_a, *facts_b]):
            yield from _differing(name, field, facts_a.get(field), facts_b.get(field))


def _facts(task: TaskBody | None) -> Mapping[str, Any]:
    if task is None:
        return {"status": _ABSENT}
    error = None if task.error is None else f"{task.error.type}: {task.error.message}"
    result = task.result if task.artifact is None else msgspec.to_builtins(task.artifact)
    return {"status": task.status, "tries": task.tries, "result": result, "error": error}


def _differing(task: str | None, field: str, a: object, b: object) -> Iterator[Difference]:
    if a != b:
        yield Difference(task=task, field=field, a=a, b=b)


def _row(difference: Difference) -> tuple[str, ...]:
    return (difference.task or "", difference.field, _text(difference.a), _text(difference.b))


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
