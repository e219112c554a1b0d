"""taskengine/cli/safe.py and output.py: nothing from outside commands the terminal, and no value changes."""

import io
import json
import unicodedata
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taskengine.cli.output import Format, json_text, write_data, yaml_text
from taskengine.cli.safe import clean, clean_json, clean_lines, is_clean, one_line

HOSTILE = [
    "\x1b]0;title\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b[2J\x1b[1;1H",
    "\x9b31m",
    "\x85next",
    "abc\u202egpj.exe",
    "\u2066x\u2069",
    "bell\x07",
    "back\x08\x08",
    "lone \ud800 surrogate",
    "line\u2028separator",
]

any_text = st.text(st.characters(), max_size=60) | st.sampled_from(HOSTILE)
# JSON text has no lone surrogates: they cannot be encoded.
json_strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | json_strings,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_strings, inner, max_size=4),
    max_leaves=12,
)


@given(any_text)
def test_cleaned_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = clean(text)
    assert is_clean(shown)
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cs")]
    assert "\n" not in shown
    assert is_clean(clean_lines(text))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_not_hidden(text: str) -> None:
    assert not is_clean(text)
    assert "\\" in clean(text)


@pytest.mark.parametrize("text", ["每日同步", "naïve café", "👩‍🚀", "a  b", "[bold]x[/bold]"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_colours_of_a_log_line_are_taken_off() -> None:
    assert clean("\x1b[1;31mred\x1b[0m") == "red"


def test_one_line_is_the_first_that_says_something_and_is_cut() -> None:
    assert one_line("\n\n  boom \nmore") == "boom"
    assert one_line("x" * 300) == "x" * 199 + "…"
    assert one_line("") == ""


@given(json_values)
def test_json_keeps_the_value_and_is_safe_to_show(value: Any) -> None:
    for pretty in (False, True):
        text = json_text(value, pretty=pretty)
        assert is_clean(text)
        assert json.loads(text) == value
    assert "\n" not in json_text(value)


@given(json_values)
def test_yaml_keeps_the_value_and_is_safe_to_show(value: Any) -> None:
    text = yaml_text(value)
    assert is_clean(text)
    assert yaml.safe_load(text) == value


def test_json_of_other_writers_is_made_safe_too() -> None:
    assert clean_json('"\u202e"') == '"\\u202e"'


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        (Format.JSON, ['[{"id":"a","n":1},{"id":"b","n":2}]']),
        (Format.JSONL, ['{"id":"a","n":1}', '{"id":"b","n":2}']),
        (Format.YAML, ["- id: a", "  n: 1", "- id: b", "  n: 2"]),
        (Format.ID, ["a", "b"]),
        (Format.TABLE, ["as a table"]),
    ],
)
def test_each_form_of_a_list(form: Format, lines: list[str]) -> None:
    pipe = io.StringIO()
    rows = [{"id": "a", "n": 1}, {"id": "b", "n": 2}]
    write_data(rows, form, table=lambda stream: print("as a table", file=stream), stream=pipe)
    assert pipe.getvalue().splitlines() == lines


def test_json_is_pretty_on_a_terminal_only() -> None:
    pipe, screen = io.StringIO(), Screen()
    for stream in (pipe, screen):
        write_data({"id": "a"}, Format.JSON, table=lambda stream: None, stream=stream)
    assert pipe.getvalue() == '{"id":"a"}\n'
    assert screen.getvalue() == '{\n  "id": "a"\n}\n'


def test_an_empty_list_is_an_empty_list() -> None:
    for form, expected in ((Format.JSON, "[]\n"), (Format.JSONL, ""), (Format.ID, "")):
        pipe = io.StringIO()
        write_data([], form, table=lambda stream: None, stream=pipe)
        assert pipe.getvalue() == expected
