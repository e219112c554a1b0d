"""Graphs: order, cycles, reach; linear, and without recursion."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.model.graph import Graph

DIRECTED = st.integers(0, 9).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, size - 1), unique=True, max_size=3) if size else st.nothing(),
        min_size=size,
        max_size=size,
    )
)
"""Any rows of dependencies, with cycles and loops."""


@st.composite
def acyclic(draw) -> list[list[int]]:
    size = draw(st.integers(1, 10))
    order = draw(st.permutations(range(size)))
    rows: list[list[int]] = [[] for _ in range(size)]
    for at in range(1, size):
        rows[order[at]] = draw(st.lists(st.sampled_from(order[:at]), unique=True, max_size=4))
    return rows


def reach(rows: list[list[int]], node: int) -> set[int]:
    """Everything above `node`, by repeated widening; `node` itself only if it is on a cycle."""
    found = set(rows[node])
    while (wider := found | {before for one in found for before in rows[one]}) != found:
        found = wider
    return found


def longest(rows: list[list[int]], node: int) -> int:
    return max((1 + longest(rows, before) for before in rows[node]), default=0)


def test_no_nodes_is_a_graph() -> None:
    graph = Graph([])
    assert (graph.size, graph.roots(), graph.leaves(), graph.levels(), graph.find_cycle()) == (0, [], [], [], [])


def test_neighbours_keep_the_order_in_which_they_were_given() -> None:
    graph = Graph([[], [], [1, 0], [0, 2, 1]])
    assert list(graph.dependencies(3)) == [0, 2, 1]
    assert list(graph.dependents(0)) == [2, 3]
    assert list(graph.dependents(1)) == [2, 3]
    assert (graph.in_degree(3), graph.out_degree(3), graph.out_degree(0)) == (3, 0, 2)


@given(rows=DIRECTED)
def test_edges_read_the_same_from_both_ends(rows: list[list[int]]) -> None:
    graph = Graph(rows)
    down = {(before, node) for before in range(len(rows)) for node in graph.dependents(before)}
    assert down == {(before, node) for node, row in enumerate(rows) for before in row}
    assert graph.roots() == [node for node, row in enumerate(rows) if not row]
    assert graph.leaves() == [node for node in range(len(rows)) if not any(node in row for row in rows)]


@given(rows=acyclic())
def test_levels_are_the_longest_ways_from_a_root(rows: list[list[int]]) -> None:
    assert Graph(rows).levels() == [longest(rows, node) for node in range(len(rows))]
    assert Graph(rows).find_cycle() == []


@given(rows=DIRECTED)
def test_nodes_on_or_behind_a_cycle_have_no_level(rows: list[list[int]]) -> None:
    cyclic = {node for node in range(len(rows)) if node in reach(rows, node)}
    levels = Graph(rows).levels()
    for node in range(len(rows)):
        assert (levels[node] < 0) == bool(cyclic & (reach(rows, node) | {node}))


@given(rows=DIRECTED)
def test_a_cycle_is_found_exactly_when_there_is_one_and_is_one(rows: list[list[int]]) -> None:
    cycle = Graph(rows).find_cycle()
    assert bool(cycle) == any(node in reach(rows, node) for node in range(len(rows)))
    assert len(set(cycle)) == len(cycle)
    for at, node in enumerate(cycle):
        assert cycle[at - 1] in rows[node]


@given(rows=DIRECTED, data=st.data())
def test_below_is_everything_that_can_be_reached(rows: list[list[int]], data: st.DataObject) -> None:
    starts = data.draw(st.sets(st.sampled_from(range(len(rows))))) if rows else set()
    expected = starts | {node for node in range(len(rows)) if reach(rows, node) & starts}
    assert Graph(rows).below(starts) == expected


def test_a_chain_of_ten_thousand_needs_no_recursion() -> None:
    size = 10_000
    rows = [[at - 1] if at else [] for at in range(size)]
    graph = Graph(rows)
    assert graph.levels() == list(range(size))
    assert graph.find_cycle() == []
    assert graph.below([0]) == set(range(size))


@pytest.mark.parametrize("back", [0, 5_000, 9_999])
def test_a_cycle_in_a_chain_of_ten_thousand_is_found(back: int) -> None:
    size = 10_000
    rows = [[at - 1] if at else [] for at in range(size)]
    rows[back].append(size - 1)
    cycle = Graph(rows).find_cycle()
    assert sorted(cycle) == list(range(back, size))
    assert all(cycle[at - 1] in rows[node] for at, node in enumerate(cycle))


def spent_s(size: int) -> float:
    """The least of several tries: seconds of processor time for a graph of `size` nodes with two edges each."""
    rows = [[at // 2, at - 1] if at > 2 else [0] * (at == 1) for at in range(size)]
    tries = []
    for _ in range(5):
        began_s = time.process_time()
        graph = Graph(rows)
        assert not graph.find_cycle()
        assert len(graph.below([0])) > size - 3
        tries.append(time.process_time() - began_s)
    return min(tries)


def test_a_hundred_thousand_nodes_are_linear() -> None:
    small, large = spent_s(20_000), spent_s(100_000)
    assert large / small < 10, "five times as many; were it quadratic it would be 25"
    assert large < 5
