"""Which tasks are upstream of which, for many questions at once."""

import time

from hypothesis import given
from hypothesis import strategies as st

from taskengine.definition import read_yaml
from taskengine.definition.references import missing_paths
from taskengine.model.graph import Graph


@st.composite
def graphs(draw) -> list[list[int]]:
    size = draw(st.integers(1, 12))
    order = draw(st.permutations(range(size)))
    rows: list[list[int]] = [[] for _ in range(size)]
    for at in range(1, size):
        rows[order[at]] = draw(st.lists(st.sampled_from(order[:at]), unique=True, max_size=3))
    return rows


def above(rows: list[list[int]], node: int) -> set[int]:
    found: set[int] = set()
    for before in rows[node]:
        found |= {before} | above(rows, before)
    return found


@given(rows=graphs())
def test_it_agrees_with_walking_up(rows: list[list[int]]) -> None:
    queries = [(source, target) for source in range(len(rows)) for target in range(len(rows))]
    expected = {(source, target) for source, target in queries if source not in above(rows, target)}
    assert missing_paths(Graph(rows), queries) == expected


def test_thousands_of_far_references_along_a_chain_take_no_quadratic_time() -> None:
    size = 20_000
    graph = Graph([[at - 1] if at else [] for at in range(size)])
    began_s = time.process_time()
    far = [(at, at + size // 2) for at in range(size // 2)]
    assert missing_paths(graph, [*far, (size - 1, 0)]) == {(size - 1, 0)}
    assert time.process_time() - began_s < 5


def test_references_of_any_form_are_pointed_at() -> None:
    read_yaml(
        "id: w\ntasks:\n- {name: a-b, job: noop}\n"
        "- {name: c, job: noop, depends_on: a-b, params: {x: \"${{ tasks [ 'a-b' ] . result }}\"}}"
    )
