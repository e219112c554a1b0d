"""Every workload runs at a tiny size and keeps its laws; its own checks raise. Figures are not looked at."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import WORKLOADS, main, measure
from benchmarks.figures import Figure, Settings

SMALL = Settings(runs=1, small=True)


@pytest.mark.parametrize("name", ["floor", "w1", "w2", "w3", "w4", "w7"])
def test_a_workload_ends_with_right_results_and_positive_figures(name: str) -> None:
    outcome = measure(name, SMALL)
    assert outcome.workload == name
    assert all(figure.samples and min(figure.samples) > 0 for figure in outcome.figures if figure.unit != "bytes")


def test_engine_writes_no_fewer_rows_than_the_floor() -> None:
    facts = measure("w1", SMALL).facts
    assert facts["rows per workflow, engine"] >= facts["rows per workflow, floor"] == 12


def test_nothing_is_lost_and_nothing_runs_twice_after_a_kill() -> None:
    found = {figure.name: figure.median for figure in measure("w5", SMALL).figures}
    assert found["instances lost"] == found["committed steps run twice"] == 0


def test_the_record_names_versions_and_settings_and_no_machine(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    assert main(["w3", "--small", "--runs", "1", "--json", str(raw)]) == 0
    record = json.loads(raw.read_text())
    assert record["settings"]["small"]
    assert record["versions"]["sqlite"]
    assert set(record["machine"]) == {"cores", "architecture", "system"}
    assert record["outcomes"][0]["figures"][0]["samples"]


def test_an_unknown_workload_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["w99"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in WORKLOADS)


def test_a_bar_that_is_not_reached_is_a_miss() -> None:
    above, below = (
        Figure(name="a", unit="s", samples=[3.0], at_most=2),
        Figure(name="b", unit="", samples=[0.1], at_least=0.35),
    )
    assert (above.verdict, below.verdict) == ("MISS", "MISS")
    assert Figure(name="c", unit="s", samples=[1.0, 2.0, 9.0], at_most=2).verdict == "met"
