"""Graphs of tasks by number: order, cycles, levels, reach. Linear in nodes and edges, and without recursion.

Nodes are 0..n-1. Edges are kept in compressed rows: the neighbours of node i are
`targets[offsets[i]:offsets[i + 1]]`, in the order in which they were given.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence

__all__ = ["Graph"]


class Graph:
    """A frozen directed graph. An edge leads from a dependency to its dependent."""

    __slots__ = ("_in_offsets", "_in_targets", "_out_offsets", "_out_targets", "size")

    def __init__(self, dependencies: Sequence[Sequence[int]]) -> None:
        """`dependencies[i]` lists what node i depends on, each once."""
        self.size = len(dependencies)
        self._in_offsets, self._in_targets = _compress(dependencies)
        self._out_offsets, self._out_targets = self._reverse()

    def dependencies(self, node: int) -> Sequence[int]:
        return self._in_targets[self._in_offsets[node] : self._in_offsets[node + 1]]

    def dependents(self, node: int) -> Sequence[int]:
        return self._out_targets[self._out_offsets[node] : self._out_offsets[node + 1]]

    def in_degree(self, node: int) -> int:
        return self._in_offsets[node + 1] - self._in_offsets[node]

    def out_degree(self, node: int) -> int:
        return self._out_offsets[node + 1] - self._out_offsets[node]

    def roots(self) -> list[int]:
        return [node for node in range(self.size) if not self.in_degree(node)]

    def leaves(self) -> list[int]:
        """Nodes on which nothing depends."""
        return [node for node in range(self.size) if not self.out_degree(node)]

    def levels(self) -> list[int]:
        """The length of the longest way from a root to each node; -1 for nodes on or behind a cycle."""
        need = [self.in_degree(node) for node in range(self.size)]
        level = [-1] * self.size
        queue = deque(self.roots())
        for root in queue:
            level[root] = 0
        reached = [0] * self.size
        while queue:
            node = queue.popleft()
            for after in self.dependents(node):
                reached[after] = max(reached[after], level[node] + 1)
                need[after] -= 1
                if not need[after]:
                    level[after] = reached[after]
                    queue.append(after)
        return level

    def find_cycle(self) -> list[int]:
        """A cycle as the nodes on it, each depending on the one before and the first on the last; [] without one."""
        stuck = {node for node, level in enumerate(self.levels()) if level < 0}
        if not stuck:
            return []
        # Every stuck node has a stuck dependency, so walking up must come back to where it has been.
        seen: dict[int, int] = {}
        node = min(stuck)
        while node not in seen:
            seen[node] = len(seen)
            node = next(before for before in self.dependencies(node) if before in stuck)
        return [at for at, position in seen.items() if position >= seen[node]][::-1]

    def below(self, starts: Iterable[int]) -> set[int]:
        """Every node that can be reached from `starts`, themselves included."""
        return _reach(starts, self.dependents)

    def _reverse(self) -> tuple["array[int]", "array[int]"]:
        counts = [0] * self.size
        for node in self._in_targets:
            counts[node] += 1
        offsets = _running_sum(counts)
        place = list(offsets)
        targets = array("I", bytes(4 * len(self._in_targets)))
        for node in range(self.size):
            for before in self.dependencies(node):
                targets[place[before]] = node
                place[before] += 1
        return offsets, targets


def _compress(rows: Sequence[Sequence[int]]) -> tuple["array[int]", "array[int]"]:
    targets = array("I")
    for row in rows:
        targets.extend(row)
    return _running_sum([len(row) for row in rows]), targets


def _running_sum(counts: Sequence[int]) -> "array[int]":
    offsets = array("I", [0])
    total = 0
    for count in counts:
        total += count
        offsets.append(total)
    return offsets


def _reach(starts: Iterable[int], neighbours: Callable[[int], Sequence[int]]) -> set[int]:
    seen = set(starts)
    stack = list(seen)
    while stack:
        for after in neighbours(stack.pop()):
            if after not in seen:
                seen.add(after)
                stack.append(after)
    return seen
