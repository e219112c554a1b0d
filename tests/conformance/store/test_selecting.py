"""Which instances a query means: each filter, all of them together, and pages that neither skip nor repeat."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskengine.model.records import InstanceRow
from taskengine.model.states import Hold, InstanceState, Phase
from taskengine.store.interface import InstanceQuery, Store

ENDS = (InstanceState.SUCCESS, InstanceState.FAILED, InstanceState.CANCELLED)
KINDS: tuple[Mapping[str, Any], ...] = (
    {"phase": Phase.RUN},
    {"phase": Phase.RUN, "hold": Hold.PAUSED},
    *({"phase": Phase.END, "final": state} for state in ENDS),
)


def _labelled(rows: Any, version: str, labels: Mapping[str, Any], **values: Any) -> Any:
    return rows.definition(version, canonical=msgspec.json.encode({"labels": labels}), **values)


@pytest.fixture
async def full(store: Store, rows: Any) -> list[InstanceRow]:
    """Thirty instances of three workflows in five states; several of one age. Oldest first, then by id."""
    made = [
        rows.instance(
            f"{number * 7 % 30:02}-Ab",
            workflow_id=("w", "流程", "W%_x")[number % 3],
            version=f"v{number % 2}",
            created_us=number // 4,
            error="Boom_100% 失败" if number % 5 == 3 else "",
            **KINDS[number % 5],
        )
        for number in range(30)
    ]
    await rows.commit(store, _labelled(rows, "v0", {"team": "a", "tier": "1"}), _labelled(rows, "v1", {"team": "b"}))
    await rows.commit(store, *(rows.decision(row.id, 1, instance=rows.new(row)) for row in made))
    return sorted(made, key=lambda row: (row.created_us, row.id))


LABELS = {"v0": {"team": "a", "tier": "1"}, "v1": {"team": "b"}}


def _fits(row: InstanceRow, query: InstanceQuery) -> bool:
    """The law, said once more and slowly."""
    texts = [text.lower() for text in (row.id, row.workflow_id, row.error)]
    return all(
        (
            query.workflow_id in (None, row.workflow_id),
            not query.states or row.state in query.states,
            all(LABELS[row.version].get(key) == value for key, value in query.labels.items()),
            query.created_after_us is None or query.created_after_us <= row.created_us,
            query.created_before_us is None or row.created_us < query.created_before_us,
            any(query.search.lower() in text for text in texts),
            row.id.startswith(query.prefix),
        )
    )


QUERIES = [
    InstanceQuery(),
    InstanceQuery(workflow_id="流程"),
    InstanceQuery(workflow_id="nobody's"),
    InstanceQuery(states=frozenset({InstanceState.FAILED})),
    InstanceQuery(states=frozenset({InstanceState.RUNNING, InstanceState.PAUSED, InstanceState.CANCELLED})),
    InstanceQuery(states=frozenset(InstanceState)),
    InstanceQuery(workflow_id="w", states=frozenset({InstanceState.SUCCESS, InstanceState.FAILED})),
    InstanceQuery(workflow_id="w", states=frozenset({InstanceState.RUNNING, InstanceState.FAILED})),
    InstanceQuery(labels={"team": "a"}),
    InstanceQuery(labels={"team": "a", "tier": "1"}),
    InstanceQuery(labels={"team": "b", "tier": "1"}),
    InstanceQuery(created_after_us=3),
    InstanceQuery(created_before_us=3),
    InstanceQuery(created_after_us=2, created_before_us=5, states=frozenset({InstanceState.SUCCESS})),
    InstanceQuery(created_after_us=5, created_before_us=5),
    InstanceQuery(search="bOOM"),
    InstanceQuery(search="失败"),
    InstanceQuery(search="流"),
    InstanceQuery(search="-aB"),
    InstanceQuery(prefix="1"),
    InstanceQuery(prefix="12-Ab"),
    InstanceQuery(prefix="12-ab"),
    InstanceQuery(
        workflow_id="W%_x",
        states=frozenset({InstanceState.FAILED, InstanceState.SUCCESS}),
        labels={"team": "b"},
        created_after_us=1,
        created_before_us=7,
        search="b",
        prefix="",
    ),
]


@pytest.mark.parametrize("descending", [True, False])
async def test_a_query_gives_what_fits_in_order_and_counts_it(
    looks: Any, full: list[InstanceRow], descending: bool
) -> None:
    for store, query in itertools.product(await looks(), QUERIES):
        expected = [row for row in full if _fits(row, query)]
        if descending:
            expected.reverse()
        assert await store.instances(query, limit=100, descending=descending) == expected, query
        assert await store.instances(query, limit=4, offset=3, descending=descending) == expected[3:7], query
        assert await store.count_instances(query) == len(expected), query


async def test_the_questions_above_are_worth_asking(full: list[InstanceRow]) -> None:
    """Seven find nothing or all; the others tell a filter from one that does nothing."""
    sizes = [sum(_fits(row, query) for row in full) for query in QUERIES]
    assert sum(0 < size < len(full) for size in sizes) == len(QUERIES) - 7
    assert sizes[-1] > 0


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("size", [1, 3, 7])
async def test_pages_by_cursor_neither_skip_nor_repeat(
    store: Store, full: list[InstanceRow], descending: bool, size: int
) -> None:
    for query in QUERIES:
        whole = await store.instances(query, limit=100, descending=descending)
        found: list[InstanceRow] = []
        while page := await store.instances(
            query,
            limit=size,
            descending=descending,
            after=(found[-1].created_us, found[-1].id) if found else None,
        ):
            found += page
        assert found == whole, query


async def test_a_cursor_stays_good_when_instances_come_and_end(store: Store, rows: Any) -> None:
    await rows.commit(store, *(rows.start(f"{number}", created_us=number) for number in range(6)))
    running = InstanceQuery(states=frozenset({InstanceState.RUNNING}))
    first = await store.instances(running, limit=3)
    assert [row.id for row in first] == ["5", "4", "3"]
    ended = rows.instance("4", phase=Phase.END, final=InstanceState.SUCCESS, created_us=4)
    await rows.commit(store, rows.start("9", created_us=9), rows.decision("4", 2, instance=rows.moved(ended)))
    rest = await store.instances(running, after=(first[-1].created_us, first[-1].id))
    assert [row.id for row in rest] == ["2", "1", "0"]


async def test_a_cursor_need_not_be_a_row_and_may_lie_outside_the_window(store: Store, rows: Any) -> None:
    await rows.commit(store, *(rows.start(f"{number}", created_us=number) for number in range(6)))
    window = InstanceQuery(created_after_us=2, created_before_us=5)
    for at, down, up in (((99, "x"), "432", ""), ((3, "~"), "32", "4"), ((3, ""), "2", "34"), ((-1, "x"), "", "234")):
        assert "".join([row.id for row in await store.instances(window, after=at)]) == down
        assert "".join([row.id for row in await store.instances(window, after=at, descending=False)]) == up


LITERAL = ["%", "_", "\\", "%%", "100%", "a_b", "'", '"', "*", "?", "[a]", "\n", "失", "é"]


@pytest.mark.parametrize("text", LITERAL, ids=ascii)
async def test_no_character_of_a_search_is_special(store: Store, rows: Any, text: str) -> None:
    await rows.commit(
        store,
        rows.start("plain", error="nothing to see, axb 100"),
        rows.start("error", error=f"x{text}y"),
        rows.start("workflow", workflow_id=f"x{text}y"),
        rows.start(f"{text}"),
    )
    query = InstanceQuery(search=text)
    assert {row.id for row in await store.instances(query)} == {"error", "workflow", text}
    assert await store.count_instances(query) == 3


async def test_only_the_letters_of_ascii_have_a_case(store: Store, rows: Any) -> None:
    await rows.commit(store, rows.start("a", error="ÄRGER"), rows.start("b", error="ärger"), rows.start("c", error="K"))
    assert [row.id for row in await store.instances(InstanceQuery(search="äRGER"))] == ["b"]
    assert [row.id for row in await store.instances(InstanceQuery(search="rGeR"))] == ["b", "a"]
    assert await store.instances(InstanceQuery(search="\u212a")) == []  # the Kelvin sign, whose lower case is k


async def test_a_prefix_is_taken_exactly(store: Store, rows: Any) -> None:
    await rows.commit(store, *(rows.start(name) for name in ("ab", "aB", "a%", "a\U0010fffe", "b", "流1", "流2")))
    for prefix, found in {"a": 4, "ab": 1, "a%": 1, "a\U0010fffe": 1, "_": 0, "流": 2, "c": 0, "ab0": 0}.items():
        assert await store.count_instances(InstanceQuery(prefix=prefix)) == found, prefix


HOSTILE = [
    "plain",
    "a.b",
    "$.a",
    "a[0]",
    'quo"te',
    "it's",
    "back\\slash",
    "a') OR 1=1 --",
    "标签",
    "🚀",
    "",
    "new\nline",
    "#-1",
    "a/b",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
async def test_any_text_is_a_label(store: Store, rows: Any, text: str) -> None:
    twin = {key: "other" for key in HOSTILE if key != text}
    await rows.commit(
        store,
        _labelled(rows, "has", {text: "yes", **twin}),
        _labelled(rows, "valued", {"key": text}),
        _labelled(rows, "twin", twin),
        rows.definition("bare"),
        *(rows.start(version, version=version) for version in ("has", "valued", "twin", "bare", "unknown")),
    )
    assert [row.id for row in await store.instances(InstanceQuery(labels={text: "yes"}))] == ["has"]
    assert [row.id for row in await store.instances(InstanceQuery(labels={"key": text}))] == ["valued"]
    assert await store.count_instances(InstanceQuery(labels={text: "yes", "key": text})) == 0


async def test_a_label_counts_in_the_version_that_an_instance_runs(store: Store, rows: Any) -> None:
    old, new = (_labelled(rows, version, {"stage": version}) for version in ("old", "new"))
    await rows.commit(store, old, rows.start("i", version="old"), new, rows.start("j", version="new"))
    assert [row.id for row in await store.instances(InstanceQuery(labels={"stage": "old"}))] == ["i"]
    await rows.commit(store, old)
    assert [row.id for row in await store.instances(InstanceQuery(labels={"stage": "new"}))] == ["j"]


async def test_a_label_is_not_a_number_a_word_or_a_deeper_key(store: Store, rows: Any) -> None:
    canonical = b'{"labels":{"a":"1","b":"true"},"params":{"labels":{"deep":"x"}},"a":"2"}'
    await rows.commit(store, rows.definition("v", canonical=canonical), rows.start("i", version="v"))
    for key, value, found in (("a", "1", 1), ("b", "true", 1), ("a", "1.0", 0), ("a", "2", 0), ("deep", "x", 0)):
        assert await store.count_instances(InstanceQuery(labels={key: value})) == found, key


texts = st.text(st.sampled_from("aAbB%_\\\x00é流'"), max_size=4)
queries = st.builds(
    InstanceQuery,
    workflow_id=st.none() | st.sampled_from(["w", "流程", "W%_x"]),
    states=st.frozensets(st.sampled_from(InstanceState), max_size=3),
    labels=st.sampled_from([{}, {"team": "a"}, {"team": "b", "tier": "1"}]),
    created_after_us=st.none() | st.integers(-1, 8),
    created_before_us=st.none() | st.integers(-1, 8),
    search=texts,
    prefix=st.sampled_from(["", "0", "1", "12-", "x"]),
)


@pytest.fixture
async def ask(store: Store, full: list[InstanceRow]) -> Callable[[InstanceQuery, int, bool], Any]:
    async def check(query: InstanceQuery, start: int, descending: bool) -> None:
        expected = [row for row in full if _fits(row, query)]
        after = (full[start].created_us, full[start].id)
        behind = [row for row in expected if ((row.created_us, row.id) < after) is descending]
        behind = [row for row in behind if (row.created_us, row.id) != after]
        if descending:
            behind.reverse()
        assert await store.count_instances(query) == len(expected)
        assert await store.instances(query, limit=50, descending=descending, after=after) == behind

    return check


async def test_any_query_from_any_cursor_follows_the_law(ask: Callable[[InstanceQuery, int, bool], Any]) -> None:
    seen: list[tuple[InstanceQuery, int, bool]] = []

    @given(queries, st.integers(0, 29), st.booleans())
    @settings(max_examples=150)
    def collect(query: InstanceQuery, start: int, descending: bool) -> None:
        seen.append((query, start, descending))

    collect()  # the store lives on this loop, and hypothesis calls plain functions
    for query, start, descending in seen:
        await ask(query, start, descending)
