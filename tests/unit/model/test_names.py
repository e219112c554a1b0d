"""Ids and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskengine.model.names import MAX_NAME, composed, fold, name_fault
from taskengine.model.spelling import did_you_mean, nearest, quoted


@pytest.mark.parametrize(
    "name", ["a", "A.b-c_9", "每日同步", "डाउनलोड-दिन", "ดาวน์โหลด", "Größe", "7", "_", "-", ".hidden", "x" * MAX_NAME]
)
def test_letters_and_digits_of_any_script_make_names(name: str) -> None:
    assert name_fault(name) == ""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("x" * 129, "has 129 characters, the limit is 128"),
        ("a b", "has a space in it; letters and digits of any script, `_`, `.` and `-` are allowed"),
        ("a/b", "has `/` in it; letters and digits of any script, `_`, `.` and `-` are allowed"),
        ("a[0]", "has `[` in it; letters and digits of any script, `_`, `.` and `-` are allowed"),
        ("a\nb", "has U+000A in it; letters and digits of any script, `_`, `.` and `-` are allowed"),
        ("a\u202eb", "has U+202E in it; letters and digits of any script, `_`, `.` and `-` are allowed"),
        ("\u0301a", "has `\u0301` in it; letters and digits of any script, `_`, `.` and `-` are allowed"),
        ("e\u0301", "is not in Unicode's normal form C"),
        ("\ud800", "has U+D800 in it; letters and digits of any script, `_`, `.` and `-` are allowed"),
        (".", "has only dots"),
        ("..", "has only dots"),
    ],
)
def test_everything_else_is_refused_with_the_reason(name: str, fault: str) -> None:
    assert name_fault(name) == fault


@pytest.mark.parametrize(
    ("one", "other"), [("Load", "load"), ("GRÖSSE", "größe"), ("cafe\u0301", "CAFÉ"), ("ΣΑΣ", "σας")]
)
def test_case_and_composition_do_not_make_another_name(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@given(name=st.text(max_size=20))
def test_folding_and_composing_are_stable(name: str) -> None:
    assert composed(composed(name)) == composed(name)
    assert fold(fold(name)) == fold(name)


def test_the_nearest_candidate_is_found() -> None:
    assert nearest("depend_on", ["name", "depends_on", "description"]) == "depends_on"
    assert nearest("EXTRACT", ["load", "Extract"]) == "Extract"
    assert nearest("日厉", ["日历", "交易"]) == "日历"
    assert nearest("xyzzy", ["name", "job"]) is None
    assert nearest("", ["a"]) is None
    assert nearest("x" * 65, ["x" * 64]) is None
    assert did_you_mean("jb", ["job"]) == ", did you mean `job`?"
    assert did_you_mean("jb", []) == ""


def test_only_so_many_candidates_are_compared() -> None:
    assert nearest("zzzz", [f"a{at:03d}" for at in range(1000)] + ["zzzz"]) is None
    assert nearest("zzzz", [f"far-too-long-{at}" for at in range(100_000)] + ["zzzy"]) == "zzzy"


def test_quoted_text_is_short_and_harmless() -> None:
    assert quoted("名") == "`名`"
    assert quoted("a\x1b[31m\n\ud800") == "`a\\x1b[31m\\n\\ud800`"
    assert quoted("x" * 81) == f"`{'x' * 79}…`"
