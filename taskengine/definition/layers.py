"""Tasks in layers: each behind all of its dependencies, and in an order with few crossings."""

from collections.abc import Callable, Sequence
from typing import Final

from taskengine.model.graph import Graph

__all__ = ["Layers"]

_SWEEPS: Final = 4


class Layers:
    """`rows[n]` are the nodes whose longest way from a root has n edges, from top to bottom of a drawing."""

    def __init__(self, dependencies: Sequence[Sequence[int]]) -> None:
        self.graph = Graph(dependencies)
        levels = self.graph.levels()
        self.rows: list[list[int]] = [[] for _ in range(max(levels, default=-1) + 1)]
        for node, level in enumerate(levels):
            self.rows[level].append(node)
        self._place = [0.0] * self.graph.size
        for row in self.rows:
            self._note(row)
        for _ in range(_SWEEPS):
            self._sweep()

    def _sweep(self) -> None:
        """Each node goes to the middle of its neighbours: of those before it, then of those behind it."""
        for row in self.rows[1:]:
            self._arrange(row, self.graph.dependencies)
        for row in reversed(self.rows[:-1]):
            self._arrange(row, self.graph.dependents)

    def _arrange(self, row: list[int], neighbours: Callable[[int], Sequence[int]]) -> None:
        def middle(node: int) -> float:
            near = neighbours(node)
            return sum(self._place[other] for other in near) / len(near) if near else self._place[node]

        row.sort(key=middle)
        self._note(row)

    def _note(self, row: Sequence[int]) -> None:
        """Places count from the middle of the drawing, as rows of different length stand there."""
        for at, node in enumerate(row):
            self._place[node] = at - (len(row) - 1) / 2
