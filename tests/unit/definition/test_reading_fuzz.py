"""Whatever text comes in: a definition or InvalidDefinition, soon, and never anything else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.definition import read_json, read_yaml, to_json
from taskengine.errors import InvalidDefinition
from taskengine.model.definition import canonical_form, decode_canonical

PIECES = st.sampled_from(
    ["\n", "  ", "- ", ": ", ",", "{", "}", "[", "]", "'", '"', "&a ", "*a", "!!str ", "!x ", "|", ">-", "? ", "#",
     "---", "...", "%YAML 1.2\n", "<<: *a", "\t", "\r\n", "\r", "\x85", "\u2028", "\ufeff", "\x00", "\ud800", "中",
     "id", "tasks", "name", "depends_on", "when", "params", "retry", "null", "1e999", "-.inf", "0x", "1" * 5000, "${{",
     "}}", "${{ tasks.load.result }}", "$${{", "sleep: 5m", "job: noop", "é\u0301", "\\", "\x1b", "~", "{" * 40]
)  # fmt: skip


def accepts_or_refuses(read, text) -> None:
    try:
        definition = read(text, file="f")
    except InvalidDefinition as error:
        refusal = error
    else:
        assert decode_canonical(canonical_form(definition)) == definition
        return
    assert refusal.problems
    for problem in refusal.problems:
        assert problem.message
        assert problem.line >= 1 <= problem.column
        assert len(problem.excerpt) <= 200
        if problem.excerpt:
            assert problem.column <= len(problem.excerpt) + 1


@given(text=st.text() | st.lists(PIECES).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    accepts_or_refuses(read_yaml, text)
    accepts_or_refuses(read_json, text)


@given(data=st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    accepts_or_refuses(read_yaml, data)
    accepts_or_refuses(read_json, data)


@given(data=st.data())
def test_any_change_to_a_good_file_is_read_or_refused(full_text: str, data: st.DataObject) -> None:
    text = full_text
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 20)))
        text = text[:start] + data.draw(PIECES | st.just("")) + text[end:]
    accepts_or_refuses(read_yaml, text)


@given(data=st.data())
def test_any_change_to_a_good_json_text_is_read_or_refused(full_text: str, data: st.DataObject) -> None:
    text = to_json(read_yaml(full_text))
    start = data.draw(st.integers(0, len(text)))
    end = min(len(text), start + data.draw(st.integers(0, 20)))
    accepts_or_refuses(read_json, text[:start] + data.draw(PIECES | st.just("")) + text[end:])


HOSTILE = {
    "brackets": "[" * 500_000,
    "braces": "{" * 500_000,
    "keys in keys": "? " * 200_000,
    "dashes": "- " * 200_000,
    "a long scalar": "id: " + "x" * 1_000_000,
    "unknown keys": "id: w\n" + "".join(f"depends_n{at}: 1\n" for at in range(30_000)),
    "unknown dependencies": "id: w\ntasks:\n"
    + "".join(f"- {{name: t{at}, job: noop, depends_on: u{at}}}\n" for at in range(10_000)),
    "unknown jobs": "id: w\ntasks:\n" + "".join(f"- {{name: t{at}, job: noob{at}}}\n" for at in range(10_000)),
    "a wide join": "id: a b\ntasks:\n"
    + "".join(f"- {{name: t{at}, job: noop}}\n" for at in range(10_000))
    + f"- {{name: z, job: noop, depends_on: [{', '.join(f't{at}' for at in range(10_000))}]}}\n",
    "a circle of thousands": "id: w\ntasks:\n"
    + "".join(f"- {{name: t{at}, job: noop, depends_on: t{(at + 1) % 10_000}}}\n" for at in range(10_000)),
    "many circles": "id: w\ntasks:\n"
    + "".join(f"- {{name: t{at}, job: noop, depends_on: t{at ^ 1}}}\n" for at in range(10_000)),
    "one long name": "id: w\ntasks: [{name: a, job: noop, depends_on: " + "x" * 500_000 + "}]",
    "one line of faults": "id: w\nlabels: {" + ", ".join(f"k{at}: 1" for at in range(50_000)) + "}",
    "a deep expression": "id: w\ntasks: [{name: a, job: noop, when: '" + "(" * 100_000 + "'}]",
    "line ends of all kinds": "id: w\n" + "\u2028\x85\r" * 100_000 + "x: [",
    "dollars": "id: w\ntasks: [{name: a, job: noop, params: {x: '" + "${{" * 100_000 + "'}}]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_soon(name: str) -> None:
    began_s = time.process_time()
    with pytest.raises(InvalidDefinition) as caught:
        read_yaml(HOSTILE[name], jobs=[f"job-{at}" for at in range(500)] + ["noop"])
    assert len(str(caught.value)) < 1_000_000
    assert time.process_time() - began_s < 5
