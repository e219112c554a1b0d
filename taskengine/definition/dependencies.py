"""The dependencies of a definition as a graph, and the messages about what is wrong with them."""

from collections.abc import Sequence
from typing import Final

from taskengine.definition.findings import Finding, Findings
from taskengine.model.definition import TaskSpec
from taskengine.model.graph import Graph
from taskengine.model.names import fold
from taskengine.model.spelling import quoted

__all__ = ["TaskGraph", "check_dependencies"]

_MAX_CYCLES: Final = 10
_MAX_ON_A_CYCLE: Final = 12


class TaskGraph:
    """The dependencies that make sense, by number.

    numbers   task name -> number; of two tasks with one name the first
    unsure    numbers of tasks whose own dependencies have a fault, so that nothing can be said of what is above them
    """

    def __init__(self, rows: Sequence[Sequence[int]], numbers: dict[str, int], unsure: set[int]) -> None:
        self.graph = Graph(rows)
        self.numbers, self.unsure = numbers, unsure


def check_dependencies(tasks: Sequence[TaskSpec], findings: Findings) -> TaskGraph:
    """Report duplicate names, unknown dependencies, self-dependencies and cycles. Linear in tasks and edges."""
    numbers = _numbers(tasks, findings)
    rows: list[list[int]] = []
    for at, task in enumerate(tasks):
        rows.append(_row(at, task, numbers, findings))
    unsure = {at for at in range(len(tasks)) if findings.touches(("tasks", at, "depends_on"))}
    unsure |= _break_cycles(tasks, rows, findings)
    return TaskGraph(rows, numbers, unsure)


def _numbers(tasks: Sequence[TaskSpec], findings: Findings) -> dict[str, int]:
    numbers: dict[str, int] = {}
    first: dict[str, int] = {}
    for at, task in enumerate(tasks):
        if not task.name:
            continue
        before = first.setdefault(fold(task.name), at)
        if before == at:
            numbers[task.name] = at
            continue
        other = tasks[before].name
        message = f"there is a task {quoted(other)} already"
        if other != task.name:
            message += f", and {quoted(task.name)} is the same name: case does not count"
        findings.add(Finding(("tasks", at, "name"), message))
    return numbers


def _row(at: int, task: TaskSpec, numbers: dict[str, int], findings: Findings) -> list[int]:
    row: dict[int, None] = {}
    for position, name in enumerate(task.depends_on):
        number = numbers.get(name)
        fault = ""
        if name == task.name:
            fault = f"{quoted(name)} depends on itself"
        elif number is None:
            fault = f"there is no task {quoted(name)}{findings.suggest(name, numbers)}"
        elif number in row:
            fault = f"{quoted(name)} is listed twice"
        if fault:
            findings.report(("tasks", at, "depends_on", position), fault)
        elif number is not None:
            row[number] = None
    return list(row)


def _break_cycles(tasks: Sequence[TaskSpec], rows: list[list[int]], findings: Findings) -> set[int]:
    """Report cycles and take an edge out of each; gives the tasks that lost one. Stops looking after ten."""
    broken: set[int] = set()
    for _ in range(_MAX_CYCLES):
        cycle = Graph(rows).find_cycle()
        if not cycle:
            return broken
        start = cycle.index(min(cycle))
        cycle = cycle[start:] + cycle[:start]
        node, before = cycle[0], cycle[-1]
        position = tasks[node].depends_on.index(tasks[before].name)
        message = f"the dependencies go round in a circle: {_way(tasks, [*cycle, node])}"
        findings.report(("tasks", node, "depends_on", position), message)
        rows[node].remove(before)
        broken.add(node)
    # Whatever circles are left: nothing can be said of what is upstream on them.
    broken.update(at for at, level in enumerate(Graph(rows).levels()) if level < 0)
    return broken


def _way(tasks: Sequence[TaskSpec], cycle: Sequence[int]) -> str:
    names = [tasks[node].name for node in cycle]
    if len(names) > _MAX_ON_A_CYCLE:
        half = _MAX_ON_A_CYCLE // 2
        names = [*names[:half], f"… {len(names) - 2 * half:,} more …", *names[-half:]]
    return " → ".join(names)
