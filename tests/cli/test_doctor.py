"""taskengine doctor: what is well, what is not and how to mend it; it changes nothing."""

import json
import os
import shlex
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from taskengine.cli.doctor.finding import Finding
from taskengine.cli.doctor.machine import check_clock, check_files, check_sqlite
from taskengine.cli.doctor.storage import check_room
from taskengine.clock import ManualClock, Micros
from tests.cli.conftest import Ran, Served

Main = Callable[..., Ran]


@pytest.fixture
def doctor(main: Main) -> Callable[..., Mapping[str, Any]]:
    """Run it with a free port; the findings by id, under `code` the exit code."""

    def run(*arguments: str, port: str = "0") -> Mapping[str, Any]:
        done = main("doctor", "--port", port, *arguments, "--json")
        assert done.stderr == ""
        found = {each["id"]: each for each in done.data}
        return {**found, "code": done.returncode}

    return run


@pytest.fixture
def state(main: Main, folder: Path) -> Path:
    """The folder that a first start leaves behind."""
    from taskengine.store.place import make_file

    make_file(folder / "data" / "task-engine.db")
    (folder / "data" / "token").touch(0o600)
    return folder / "data"


def everything(root: Path) -> Mapping[str, tuple[int, float]]:
    return {str(path): (path.stat().st_mode, path.stat().st_mtime) for path in [root, *root.rglob("*")]}


def test_on_a_new_machine_all_is_well_and_nothing_is_made(doctor: Callable[..., Any], folder: Path) -> None:
    before = everything(folder)
    found = doctor()
    assert found.pop("code") == 0
    assert {each["status"] for each in found.values()} == {"ok"}
    assert {"python", "configuration", "port", "state folder", "database", "functions", "disk", "sqlite"} <= set(found)
    assert everything(folder) == before


def test_the_table_has_a_mark_and_an_advice_below(main: Main, folder: Path) -> None:
    done = main("doctor", "--port", "0", "--host", "0.0.0.0")
    assert done.returncode == 1
    line = next(at for at, text in enumerate(done.lines) if text.startswith("✘ fail  address: 0.0.0.0 can be reached"))
    assert "--tls-cert" in done.lines[line + 1]
    assert any(text.startswith("✔ ok    disk: ") for text in done.lines)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("server: {prot: 80}", "did you mean `port`"),
        ("server: {read_timeout: soon}", "server.read_timeout"),
        ("functions: {modules: [no.such.module]}", "no.such.module"),
        ("functions: {apps: [gone.py]}", "gone.py"),
    ],
)
def test_a_mistake_in_the_configuration_is_a_failure(
    doctor: Callable[..., Any], folder: Path, yaml: str, said: str
) -> None:
    (folder / "c.yaml").write_text(yaml)
    found = doctor("--config", "c.yaml")
    bad = [each for each in found.values() if isinstance(each, dict) and each["status"] == "fail"]
    assert found["code"] == 1
    assert len(bad) == 1
    assert said in bad[0]["detail"]
    assert bad[0]["advice"]


def test_a_taken_port_is_a_failure_with_a_way_out(doctor: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        found = doctor(port=str(sock.getsockname()[1]))
    assert found["code"] == 1
    assert "--port 0" in found["port"]["advice"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_token_that_others_may_read_is_a_failure(doctor: Callable[..., Any], state: Path, mode: int) -> None:
    (state / "token").chmod(mode)
    found = doctor()
    assert found["code"] == 1
    assert f"chmod 600 {state / 'token'}" in found["token"]["advice"]


def test_the_advice_for_a_token_mends_it(doctor: Callable[..., Any], state: Path) -> None:
    (state / "token").chmod(0o644)
    program, mode, path = shlex.split(doctor()["token"]["advice"].partition(",")[0])
    assert program == "chmod"
    os.chmod(path, int(mode, 8))
    assert doctor()["token"]["status"] == "ok"


def test_a_folder_in_which_others_write_is_a_warning_and_no_failure(doctor: Callable[..., Any], state: Path) -> None:
    state.chmod(0o777)
    found = doctor()
    assert (found["state folder"]["status"], found["code"]) == ("warn", 0)


def test_a_file_that_is_no_database_is_a_failure_and_stays_as_it_is(doctor: Callable[..., Any], state: Path) -> None:
    (state / "task-engine.db").write_bytes(b"not a database at all" * 100)
    before = everything(state)
    found = doctor()
    assert (found["database"]["status"], found["code"]) == ("fail", 1)
    assert everything(state) == before


@pytest.fixture
def database(served: Served, state: Path) -> Path:
    """A database as a server makes it."""
    path = state / "task-engine.db"
    source, target = sqlite3.connect(served.store), sqlite3.connect(path)
    source.backup(target)
    target.execute("PRAGMA journal_mode = DELETE")
    source.close()
    target.close()
    return path


def test_a_damaged_database_is_a_failure(doctor: Callable[..., Any], database: Path) -> None:
    assert doctor()["integrity"]["detail"] == "ok"
    db = sqlite3.connect(database)
    (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'instances'").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with database.open("r+b") as file:
        file.seek(size * (page - 1))
        file.write(b"\xff" * size)
    found = doctor()
    assert (found["integrity"]["status"], found["code"]) == ("fail", 1)
    assert "backup" in found["integrity"]["advice"]


def test_a_newer_schema_is_a_failure(doctor: Callable[..., Any], database: Path) -> None:
    db = sqlite3.connect(database)
    db.execute("INSERT INTO schema_migrations (number, name, at_us) VALUES (999, 'later', 0)")
    db.commit()
    db.close()
    found = doctor()
    assert (found["schema"]["status"], found["code"]) == ("fail", 1)


def test_a_running_server_is_found_and_is_no_fault(
    doctor: Callable[..., Any], served: Served, clean_environment: None
) -> None:
    served.note_in(Path(os.environ["TASKENGINE_HOME"]))
    port = served.address.rpartition(":")[2]
    found = doctor("--db", served.store, port=port)
    assert found["code"] == 0
    assert "answers 200" in found["server"]["detail"]
    assert served.address in found["database lock"]["detail"]
    assert "which has this database" in found["port"]["detail"]
    assert found["integrity"]["detail"] == "ok"


def test_the_port_of_a_server_with_another_database_is_taken(doctor: Callable[..., Any], served: Served) -> None:
    served.note_in(Path(os.environ["TASKENGINE_HOME"]))
    found = doctor(port=served.address.rpartition(":")[2])
    assert (found["port"]["status"], found["code"]) == ("fail", 1)


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address at which somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_a_failure(doctor: Callable[..., Any], deaf: str) -> None:
    from taskengine.config.presence import ServerNote, write_note

    write_note(ServerNote(address=deaf, pid=os.getpid(), token_file="t", store="s", started_us=1))
    found = doctor()
    assert (found["server"]["status"], found["code"]) == ("fail", 1)
    assert "does not answer" in found["server"]["detail"]


# -- the single looks --------------------------------------------------------------------------------------------


def test_old_sqlite_is_told_of_and_is_no_fault() -> None:
    assert "3.51.3" in check_sqlite((3, 40, 1)).detail
    assert check_sqlite((3, 51, 3)) == Finding(id="sqlite", status="ok", detail="3.51.3")


def test_a_clock_that_went_back_is_a_warning_and_one_before_this_program_a_failure() -> None:
    clock = ManualClock(1_800_000_000_000_000)
    now = clock.now_us()
    assert check_clock(clock, None).status == check_clock(clock, now).status == "ok"
    assert check_clock(clock, Micros(now + 3600 * 1_000_000)).status == "warn"
    assert check_clock(ManualClock(0), None).status == "fail"


def test_more_clients_than_files_is_a_warning() -> None:
    assert check_files(1).status == "ok"
    few = check_files(2**40)
    assert few.status == "warn" or few.detail == "any number"


def test_a_full_disk_is_a_failure_and_little_room_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verdict(free: int) -> str:
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
        return {each.id: each.status for each in check_room(tmp_path / "x.db", "x.db")}["disk"]

    assert [verdict(10 * 1024**2), verdict(500 * 1024**2), verdict(10 * 1024**3)] == ["fail", "warn", "ok"]


def test_hostile_text_of_a_configuration_reaches_the_terminal_cleaned(main: Main, folder: Path) -> None:
    done = main("doctor", "--port", "0", "--app", "\x1b]0;evil\x07.py")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr


def test_json_lines_are_one_object_each(main: Main, folder: Path) -> None:
    done = main("doctor", "--port", "0", "-o", "jsonl")
    assert {"id", "status", "detail", "advice"} == set(json.loads(done.lines[0]))
