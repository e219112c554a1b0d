"""Reads WfFormat: the graph and the recorded runtimes of one execution.

Since 1.5 the graph is in `workflow.specification.tasks` and the runtimes are in `workflow.execution.tasks`. Up to 1.4
both are in `workflow.tasks` (the oldest files say `workflow.jobs` and `runtime`), and parents may be named instead of
numbered. Some writers list only parents, some only children; an edge counts when either end knows it.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["NotATrace", "Step", "Trace", "read_trace"]

Fields = Mapping[str, Any]


class NotATrace(Exception):
    """The file cannot be read as WfFormat. The text is a sentence for the user, with the file and the place in it."""


@dataclass(frozen=True)
class Step:
    """One recorded task: its parents in file order, each once, and how long it took."""

    id: str
    seconds: float
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """One recorded execution, its steps in file order (which need not be an order of execution)."""

    name: str
    steps: tuple[Step, ...]

    @property
    def edges(self) -> int:
        return sum(len(step.parents) for step in self.steps)

    def scaled(self, factor: float) -> "Trace":
        """The same graph with every runtime multiplied, to whole microseconds."""
        steps = (replace(step, seconds=round(step.seconds * factor, 6)) for step in self.steps)
        return replace(self, steps=tuple(steps))


def read_trace(path: Path) -> Trace:
    """The execution that `path` records. Raises NotATrace."""
    try:
        return _trace(_document(path), path.stem)
    except NotATrace as fault:
        raise NotATrace(f"{path}: {fault}") from None


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as fault:
        raise NotATrace(f"cannot be read: {fault.strerror}") from None
    except RecursionError:
        raise NotATrace("is nested too deeply to be WfFormat") from None
    except ValueError as fault:
        raise NotATrace(f"is no JSON: {fault}") from None


def _trace(document: Any, fallback_name: str) -> Trace:
    workflow = document.get("workflow") if isinstance(document, dict) else None
    if not isinstance(workflow, dict):
        raise NotATrace("is no WfFormat: it has no object `workflow`")
    place, tasks, runtimes = _parts(workflow)
    ids = _ids(place, tasks)
    parents = _parents(place, tasks, ids)
    steps = [Step(id_, _seconds(id_, runtimes), tuple(parents[id_])) for id_ in ids]
    return Trace(str(document.get("name") or fallback_name), tuple(steps))


def _parts(workflow: Fields) -> tuple[str, Sequence[Fields], Mapping[str, Fields]]:
    """Where the graph is, its tasks, and the records with the runtimes by id."""
    if isinstance(workflow.get("specification"), dict):
        place = "workflow.specification.tasks"
        tasks = _objects(place, workflow["specification"].get("tasks"))
        execution = workflow.get("execution")
        ran = _objects("workflow.execution.tasks", execution.get("tasks") if isinstance(execution, dict) else None)
        return place, tasks, {str(record.get("id")): record for record in ran}
    for key in ("tasks", "jobs"):
        if key in workflow:
            tasks = _objects(f"workflow.{key}", workflow[key])
            return f"workflow.{key}", tasks, {_id(task): task for task in tasks}
    raise NotATrace("is no WfFormat: it has neither `workflow.specification.tasks` nor `workflow.tasks`")


def _objects(place: str, value: Any) -> Sequence[Fields]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise NotATrace(f"is no WfFormat: `{place}` is no list of objects")
    return value


def _id(task: Fields) -> str:
    """The id, else the name: before 1.4 tasks had no id of their own."""
    return str(task.get("id") or task.get("name") or "")


def _ids(place: str, tasks: Sequence[Fields]) -> list[str]:
    ids: dict[str, None] = {}
    for index, task in enumerate(tasks):
        id_ = _id(task)
        if not id_:
            raise NotATrace(f"`{place}[{index}]` has neither id nor name")
        if id_ in ids:
            raise NotATrace(f"`{place}[{index}]` has the id `{id_}` of an earlier task")
        ids[id_] = None
    return list(ids)


def _parents(place: str, tasks: Sequence[Fields], ids: Sequence[str]) -> Mapping[str, dict[str, None]]:
    """The parents of each task; a dictionary instead of a set keeps the order of the file."""
    known = {str(task.get("name")): id_ for task, id_ in zip(tasks, ids, strict=True)} | {id_: id_ for id_ in ids}
    parents: dict[str, dict[str, None]] = {id_: {} for id_ in ids}
    for task, id_ in zip(tasks, ids, strict=True):
        for parent in _relatives(place, id_, task, "parents", known):
            parents[id_][parent] = None
    for task, id_ in zip(tasks, ids, strict=True):
        for child in _relatives(place, id_, task, "children", known):
            parents[child][id_] = None
    return parents


def _relatives(place: str, id_: str, task: Fields, key: str, known: Mapping[str, str]) -> Iterator[str]:
    named = task.get(key) or []
    if not isinstance(named, list):
        raise NotATrace(f"`{key}` of task `{id_}` in `{place}` is no list")
    for name in named:
        if str(name) not in known:
            raise NotATrace(f"`{key}` of task `{id_}` in `{place}` names `{name}`, and there is no such task")
        yield known[str(name)]


def _seconds(id_: str, runtimes: Mapping[str, Fields]) -> float:
    record = runtimes.get(id_, {})
    value = record.get("runtimeInSeconds", record.get("runtime"))
    if value is None:
        raise NotATrace(f"has no recorded runtime for task `{id_}`")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise NotATrace(f"has the runtime {value!r} for task `{id_}`; a number of seconds from 0 up is expected")
    return float(value)
