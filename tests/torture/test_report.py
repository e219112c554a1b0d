"""The page of the long tests: whatever a test notes can be read there."""

from pathlib import Path

import pytest
from torture.figures import VARIABLE, note, read
from torture.report import written

KILL = {"name": "random", "seed": 3, "kills": 5, "instances": 72, "recovery_s": [0.1, 0.2]}


def test_what_a_test_notes_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note("nobody collects", rounds=1)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "figures"))
    note("drain", rounds=50)
    note("流", clients=2)
    assert read(tmp_path / "figures") == [{"name": "drain", "rounds": 50}, {"name": "流", "clients": 2}]


def test_a_figure_is_a_section_with_a_line_for_each_thing_it_says() -> None:
    page = written([{"name": "drain", "rounds": 50, "longest_exit_s": 4.881, "lost": 0, "ends": [1.5, 2]}], {}, 0)
    assert page.endswith("## Drain\n\n- rounds: 50\n- longest exit, s: 4.881\n- lost: 0\n- ends: 1.5, 2\n")


def test_several_of_one_name_are_a_table_whatever_keys_they_have() -> None:
    figures = [
        {"name": "stream", "clients": 1000, "p99_ms": 480.25},
        {"name": "drain", "rounds": 1},
        {"name": "stream", "clients": 5, "scope": "a|b\nc", "whole": True},
    ]
    page = written(figures, {}, 0)
    assert "- rounds: 1\n\n## Stream" in page
    assert page.endswith(
        "| clients | p99, ms | scope | whole |\n|---|---|---|---|\n| 1,000 | 480.2 |  |  |\n| 5 |  | a\\|b c | yes |\n"
    )


def test_kills_stand_in_their_own_tables_and_nowhere_else() -> None:
    page = written([KILL, {"name": "drain", "rounds": 50}], {}, 0)
    assert page.count("| random |") == 2
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## Kills", "## Recovery", "## Drain"]
    assert "\n\n\n" not in page


def test_a_failed_run_says_so() -> None:
    assert "FAILED (exit code 1)" in written([], {"tests": 3, "failures": 1}, 1)
