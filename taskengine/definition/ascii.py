"""The graph of a definition as text: a line for each task, with the ways between them to its left.

    ●    calendar
    ├─╮
    │ ●  stocks
    ● │  bonds
    ├─╯
    ●    load

A way runs down in a lane of its own until the task that it leads to. Names stand at the right, so that letters of any
width do no harm.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from taskengine.model.definition import WorkflowDefinition
from taskengine.model.graph import Graph

__all__ = ["MAX_LANES", "to_ascii"]

MAX_LANES: Final = 24
"""With more ways side by side than that nobody follows one with the eye; there is a plain list then."""

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_STROKES: Final = " ╵╷│╴╯╮┤╶╰╭├─┴┬┼"
"""By the directions that meet in it."""


def to_ascii(definition: WorkflowDefinition, label: Callable[[str], str] = str) -> str:
    """The drawing, one line for each task and for each branching. `label` may make a name fit for its reader."""
    if not definition.tasks:
        return "(no tasks)\n"
    numbers = {task.name: at for at, task in enumerate(definition.tasks)}
    graph = Graph([[numbers[name] for name in dict.fromkeys(task.depends_on)] for task in definition.tasks])
    names = [label(task.name) for task in definition.tasks]
    order = _order(graph)
    drawn = _Lanes(graph).draw(order)
    if drawn is None:
        return _listed(graph, names, order)
    width = max(len(line) for line, _ in drawn)
    lines = [line if node < 0 else f"{line.ljust(width)}  {names[node]}" for line, node in drawn]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _order(graph: Graph) -> list[int]:
    """Dependencies first; what was freed last goes on first, so that a branch stays together."""
    need = [graph.in_degree(node) for node in range(graph.size)]
    free = [(0, node) for node in graph.roots()]
    heapify(free)
    order: list[int] = []
    while free:
        _, node = heappop(free)
        order.append(node)
        for after in graph.dependents(node):
            need[after] -= 1
            if not need[after]:
                heappush(free, (-len(order), after))
    return order


def _listed(graph: Graph, names: Sequence[str], order: Sequence[int]) -> str:
    """One line for each task, indented by its level, with what it waits for."""
    levels = graph.levels()
    lines = []
    for node in sorted(order, key=lambda node: levels[node]):
        needs = ", ".join(names[before] for before in graph.dependencies(node))
        lines.append("  " * min(levels[node], 20) + f"● {names[node]}" + (f"  after {needs}" if needs else ""))
    return "\n".join(lines) + "\n"


class _Lanes:
    """Ways that are under way from top to bottom; each lane holds the task that it leads to, or None."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._lanes: list[int | None] = []

    def draw(self, order: Sequence[int]) -> list[tuple[str, int]] | None:
        """Lines with the task that each shows, -1 for lines between tasks; None when there are too many lanes."""
        lines: list[tuple[str, int]] = []
        ended = -1  # the lane in which the line above has a task that nothing leads away from
        for node in order:
            mine, merged = self._gather(node)
            if mine == ended and not self._graph.in_degree(node):
                lines.append((self._passing(mine), -1))  # or the two would look joined
            if merged:
                lines.append((merged, -1))
            lines.append((self._row(mine), node))
            split = self._leave(node, mine)
            ended = -1 if self._graph.out_degree(node) else mine
            if split:
                lines.append((split, -1))
            if len(self._lanes) > MAX_LANES:
                return None
        return lines

    def _gather(self, node: int) -> tuple[int, str]:
        """The lane of a task, into which all others that lead to it come; and the line that shows this."""
        leading = [at for at, target in enumerate(self._lanes) if target == node]
        if not leading:
            return self._free(node), ""
        mine, *others = leading
        line = ""
        if others:
            cells = self._cells()
            _bend(cells, mine, others, _UP)
            for other in others:
                self._lanes[other] = None
            line = _text(cells)
        return mine, line

    def _leave(self, node: int, mine: int) -> str:
        """Lanes for the ways out of a task, which begins in its own; the line that shows them branch off."""
        self._lanes[mine] = None
        known: list[int] = []
        fresh: list[int] = []
        for after in self._graph.dependents(node):
            if after in self._lanes:
                known.append(self._lanes.index(after))
            else:
                fresh.append(after)
        passing = [target is not None for target in self._lanes]
        opened = [self._take(after, mine if at == 0 else -1) for at, after in enumerate(fresh)]
        others = [lane for lane in opened if lane != mine]
        line = ""
        if known or others:
            passing += [False] * (len(self._lanes) - len(passing))
            cells = [_UP | _DOWN if is_passing else 0 for is_passing in passing]
            _bend(cells, mine, others + known, _DOWN, own=_UP | (_DOWN if mine in opened else 0))
            line = _text(cells)
        while self._lanes and self._lanes[-1] is None:
            self._lanes.pop()
        return line

    def _take(self, target: int, lane: int) -> int:
        if lane < 0:
            return self._free(target)
        self._lanes[lane] = target
        return lane

    def _free(self, target: int) -> int:
        """The first lane that nobody is in."""
        if None in self._lanes:
            at = self._lanes.index(None)
            self._lanes[at] = target
            return at
        self._lanes.append(target)
        return len(self._lanes) - 1

    def _cells(self) -> list[int]:
        return [0 if target is None else _UP | _DOWN for target in self._lanes]

    def _passing(self, mine: int) -> str:
        return self._row(mine).replace("●", " ")

    def _row(self, mine: int) -> str:
        return " ".join("●" if at == mine else " " if target is None else "│" for at, target in enumerate(self._lanes))


def _bend(cells: list[int], mine: int, others: Sequence[int], towards: int, *, own: int = _UP | _DOWN) -> None:
    """Join `others` and `mine` by one stroke across; each of the others keeps going `towards` there."""
    first, last = min(mine, *others), max(mine, *others)
    cells[mine] = own
    for other in others:
        cells[other] |= towards
        if towards == _UP:
            cells[other] &= ~_DOWN
    for at in range(first, last + 1):
        cells[at] |= (_LEFT if at > first else 0) | (_RIGHT if at < last else 0)


def _text(cells: Sequence[int]) -> str:
    """Lanes stand two columns apart."""
    parts = []
    for at, cell in enumerate(cells):
        parts.append(_STROKES[cell])
        if at < len(cells) - 1:
            parts.append("─" if cell & _RIGHT else " ")
    return "".join(parts)
