"""taskengine/cli/local/runs.py: where runs are kept, for whose eyes, and which one a prefix means."""

import os
import stat
from pathlib import Path

import pytest

from taskengine.cli.local.runs import RunRecord, Runs, lasting_dsn
from taskengine.clock import Micros
from taskengine.config.places import data_folder
from taskengine.errors import InvalidInput, NotFound
from taskengine.model.ids import InstanceId
from taskengine.store.lock import FileLock

IDS = ["0192f3c1-0000-7000-8000-000000000001", "0192f3c2-0000-7000-8000-000000000002"]


def make(runs: Runs, run_id: str, dsn: str | None = None) -> RunRecord:
    record = runs.plan(InstanceId(run_id), Micros(1), dsn=dsn, apps=("/a/作业.py",), workers=3, file="/f.yaml")
    runs.create(record)
    return record


def test_the_data_folder_is_the_first_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("TASKENGINE_HOME", str(tmp_path / "home"))
    assert data_folder() == tmp_path / "home"
    monkeypatch.setenv("TASKENGINE_HOME", "")
    assert data_folder() == tmp_path / "xdg" / "taskengine"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert data_folder() == tmp_path / "me" / ".local" / "share" / "taskengine"


def test_nothing_is_made_before_a_run(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "new")
    runs.plan(InstanceId(IDS[0]), Micros(1))
    assert runs.all() == []
    assert not (tmp_path / "new").exists()


def test_folders_and_records_are_for_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        runs = Runs(tmp_path / "new")
        make(runs, IDS[0])
    finally:
        os.umask(before)
    for path in (tmp_path / "new", runs.folder, runs.folder / IDS[0]):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((runs.folder / IDS[0] / "run.json").stat().st_mode) == 0o600


def test_a_record_comes_back_as_it_was_the_newest_first(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    made = [make(runs, run_id) for run_id in IDS]
    assert runs.all() == made[::-1]
    assert runs.get(InstanceId(IDS[0])) == made[0]


def test_a_moved_data_folder_keeps_its_runs(tmp_path: Path) -> None:
    record = make(Runs(tmp_path / "old"), IDS[0])
    os.rename(tmp_path / "old", tmp_path / "new")
    (found,) = Runs(tmp_path / "new").all()
    assert found.dsn == record.dsn.replace("/old/", "/new/")


def test_strange_folders_are_passed_over(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    make(runs, IDS[0])
    (runs.folder / "stray").mkdir()
    (runs.folder / "broken").mkdir()
    (runs.folder / "broken" / "run.json").write_text("{")
    os.rename(runs.folder / IDS[0], runs.folder / "renamed")
    assert runs.all() == []


def test_a_unique_beginning_is_enough_and_several_are_told(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    made = [make(runs, run_id) for run_id in IDS]
    assert runs.find("0192F3C1") == made[0]
    assert runs.find(IDS[1]) == made[1]
    with pytest.raises(InvalidInput, match=r"2 runs begin with 0192") as told:
        runs.find("0192")
    assert all(run_id in str(told.value) for run_id in IDS)


@pytest.mark.parametrize("prefix", ["", "ff", "../runs", "/", "0192f3c1-0000-7000-8000-000000000001x"])
def test_an_id_never_becomes_a_path(tmp_path: Path, prefix: str) -> None:
    runs = Runs(tmp_path)
    make(runs, IDS[0])
    with pytest.raises(NotFound, match="instance list"):
        runs.find(prefix)


def test_a_run_in_use_is_not_removed(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    record = make(runs, IDS[0])
    lock = FileLock(Path(record.dsn))
    lock.acquire()
    assert runs.is_locked(record)
    assert not runs.remove(record)
    lock.release()
    assert not runs.is_locked(record)
    assert runs.remove(record)
    assert runs.all() == []


@pytest.mark.parametrize(
    ("dsn", "lasting"),
    [
        ("x.db", "{here}/x.db"),
        ("/a/x.db", "/a/x.db"),
        ("sqlite:///a/x.db", "sqlite:///a/x.db"),
        ("sqlite:///./x%20y.db?allow_network=true", "sqlite://{here}/x%20y.db?allow_network=true"),
        ("memory://", ""),
    ],
)
def test_an_address_that_lasts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dsn: str, lasting: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert lasting_dsn(dsn) == lasting.format(here=tmp_path)
