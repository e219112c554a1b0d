"""`taskengine db`: how a database is, its schema, a copy of it, its move."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from databases.filling import fill

from taskengine.ambient import Ambient
from taskengine.clock import Micros
from taskengine.store import migrations
from taskengine.store.artifacts import default_folder
from taskengine.store.interface import MoveNote
from taskengine.store.opening import open_store
from taskengine.store.queries import folder as folder_of
from taskengine.store.tables import TABLES

Main = Callable[..., Any]
Until = Callable[[Callable[[], Any]], Any]
Workflow = Callable[..., str]

STEPS = [step.label for step in migrations.load(folder_of("sqlite"))]
NOBODY = "postgresql://me:s3kret@127.0.0.1:1/db"


@pytest.fixture
def db(main: Main, folder: Path, workflow: Workflow) -> str:
    """A database with one instance."""
    file = workflow("name: a, job: log, params: {message: hi}", "name: b, job: noop, depends_on: [a]")
    assert main("run", file, "--db", "a.db", "-o", "id").returncode == 0
    return "a.db"


def filled(path: Path, instances: int) -> None:
    async def make() -> None:
        store = open_store(str(path), Ambient())
        await store.open()
        await fill(store, instances)
        await store.close()

    asyncio.run(make())


@pytest.fixture
def old(folder: Path) -> str:
    """A database as the first release left it."""
    connection = sqlite3.connect(folder / "old.db", isolation_level=None)
    migrations.migrate(connection, migrations.load(folder_of("sqlite"))[:1], Micros(1))
    connection.close()
    return "old.db"


@pytest.fixture
def newer(db: str, folder: Path) -> str:
    """A database that a later release has had."""
    connection = sqlite3.connect(folder / db)
    connection.execute("INSERT INTO schema_migrations VALUES (999, 'later', 1)")
    connection.commit()
    connection.close()
    return db


# -- status


def test_the_status_of_a_file(main: Main, db: str, folder: Path) -> None:
    done = main("db", "status", "--db", db)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.lines
    assert lines[0] == f"Database   sqlite://{folder / db}"
    assert lines[1] == f"Schema     {len(STEPS)}"
    assert lines[2].startswith("Size       ")
    assert lines[3:7] == ["Held by    nobody", "Instances  1 Success", "", "TABLE        ROWS"]
    rows = dict(line.split() for line in lines[7:])
    assert list(rows) == [table.name for table in TABLES]
    assert (rows["instances"], rows["tasks"], rows["logs"], rows["tokens"]) == ("1", "2", "1", "0")
    assert "TABLE" not in main("db", "status", "--db", db, "--no-headers").stdout


def test_the_status_as_data(main: Main, db: str, folder: Path) -> None:
    found = main("db", "status", "--db", db, "--json").data
    assert list(found) == [
        *("kind", "address", "schema", "missing_steps", "size_bytes", "instances", "tables", "oldest_unfinished"),
        *("holder", "filled_from", "retention"),
    ]
    assert (found["kind"], found["missing_steps"], found["instances"]) == ("sqlite", [], {"Success": 1})
    assert found["tables"][0] == {"name": "definitions", "rows": 1, "exact": True}
    assert main("db", "status", "--db", db, "-o", "id").stdout == f"sqlite://{folder / db}\n"
    assert "kind: sqlite\n" in main("db", "status", "--db", db, "-o", "yaml").stdout


def test_a_server_and_its_database_say_the_same(main: Main, served: Any) -> None:
    asked, looked = (main("db", "status", "--json", *flags).data for flags in (served.flags, served.db))
    for found in (asked, looked):
        found.pop("size_bytes")  # its log grows and shrinks
    assert (asked.pop("retention"), looked.pop("retention")) == ({"success": 2592000.0, "failed": 7776000.0}, None)
    assert asked == looked
    assert looked["holder"] == {"pid": served.process.pid, "host": "", "address": served.address}
    text = main("db", "status", *served.flags).stdout
    assert "Kept       success 30d, others 90d\n" in text
    assert f"Held by    the server at {served.address} (pid {served.process.pid})\n" in text


def test_the_oldest_unfinished_instance_is_shown(main: Main, served: Any, upload: Callable[..., str]) -> None:
    workflow_id = upload("name: nap, job: sleep, params: {duration: 60s}")
    assert main("workflow", "execute", workflow_id, *served.flags).returncode == 0
    found = main("db", "status", "--json", *served.flags).data["oldest_unfinished"]
    assert list(found) == ["id", "workflow_id", "status", "created_at"]
    assert f"Unfinished since {found['created_at'][:10]} " in main("db", "status", *served.flags).stdout


def test_the_server_of_this_machine_is_asked(main: Main, served: Any) -> None:
    served.note_in(Path(os.environ["TASKENGINE_HOME"]))
    assert main("db", "status", "--json").data["holder"]["address"] == served.address


def test_the_database_of_a_configuration(main: Main, db: str, folder: Path) -> None:
    (folder / "server.yaml").write_text(f"task-engine: {{storage: {{database: {{dsn: '{db}'}}}}}}\n")
    assert main("db", "status", "--config", "server.yaml", "--json").data["instances"] == {"Success": 1}
    assert main("db", "migrate", "--check", "--config", "server.yaml").returncode == 0
    done = main("db", "status", "--config", "server.yaml", "--server", "http://127.0.0.1:1")
    assert (done.returncode, "exclude each other" in done.stderr) == (2, True)


def test_without_a_word_it_is_the_database_of_a_first_server(main: Main, db: str, folder: Path) -> None:
    done = main("db", "status")
    assert (done.returncode, "data/task-engine.db: there is no such database" in done.stderr) == (2, True)
    (folder / "data").mkdir()
    shutil.copy(folder / db, folder / "data/task-engine.db")
    assert main("db", "status", "--json").data["instances"] == {"Success": 1}


def test_checksums_are_the_same_wherever_the_rows_are(main: Main, db: str, folder: Path) -> None:
    first = main("db", "status", "--db", db, "--checksums", "--json").data["checksums"]
    assert [each["table"] for each in first] == [table.name for table in TABLES]
    assert main("db", "move", db, "b.db", "-q").returncode == 0
    assert main("db", "status", "--db", "b.db", "--checksums", "--json").data["checksums"] == first
    text = main("db", "status", "--db", db, "--checksums").stdout
    assert all(each["sha256"] in text for each in first)


def test_checksums_are_not_a_server_s_to_compute(main: Main, served: Any) -> None:
    done = main("db", "status", "--checksums", *served.flags)
    assert (done.returncode, "--db" in done.stderr) == (2, True)
    assert main("db", "status", "--checksums", "-q", *served.db).returncode == 0


def test_what_is_not_about_databases_is_refused(main: Main, db: str) -> None:
    assert main("db", "status", "--runs").returncode == 2
    for words in (
        ("migrate", "--db", "memory://"),
        ("backup", "b.db", "--db", "memory://"),
        ("move", "memory://", "b.db"),
    ):
        done = main("db", *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "memory" in done.stderr
    assert main("db", "prune", "--runs", "--older-than", "1d").returncode == 2


# -- prune


def ended(main: Main, served: Any, workflow_id: str, many: int) -> list[str]:
    """So many instances that have ended, on the server, and had no idempotency key."""
    found = []
    for _ in range(many):
        request = urllib.request.Request(
            f"{served.address}/api/v1/workflows/{workflow_id}/execute?wait=20s",
            data=b"{}",
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {Path(served.token_file).read_text().strip()}",
            },
        )
        with urllib.request.urlopen(request) as answer:
            found.append(json.load(answer)["data"]["instance_id"])
    return found


def test_old_instances_of_a_server_are_removed(main: Main, served: Any, upload: Callable[..., str]) -> None:
    workflow_id = upload("name: a, job: noop")
    gone = ended(main, served, workflow_id, 3)
    asked = ("db", "prune", "--workflow", workflow_id, "--older-than", "0s", *served.flags)
    done = main(*asked, "--dry-run")
    assert (done.returncode, done.stdout) == (0, "3 ended instances would be removed\n")
    done = main(*asked)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Remove 3 ended instances of the server {served.address}, with all that is stored of them?" in done.stderr
    assert "--yes" in done.stderr
    assert main(*asked, "--yes", "--json").data == {"instances": 3, "dry_run": False}
    assert main(*asked, "--yes").stdout == "0 ended instances removed\n"
    assert {main("instance", "status", each, *served.flags).returncode for each in gone} == {3}


def test_a_key_keeps_an_instance_for_a_day_and_that_is_told(
    main: Main, served: Any, upload: Callable[..., str]
) -> None:
    workflow_id = upload("name: a, job: noop")
    assert main("workflow", "execute", workflow_id, "--wait", *served.flags).returncode == 0
    done = main("db", "prune", "--workflow", workflow_id, "--older-than", "0s", "--yes", *served.flags)
    assert (done.returncode, done.stdout) == (0, "0 ended instances removed\n")
    assert "idempotency key" in done.stderr
    assert "idempotency" not in main("db", "prune", "--older-than", "24h", "--yes", *served.flags).stderr


def test_what_retention_keeps_stays(main: Main, served: Any, upload: Callable[..., str]) -> None:
    (kept,) = ended(main, served, upload("name: a, job: noop"), 1)
    assert main("db", "prune", "--yes", *served.flags).stdout == "0 ended instances removed\n"
    assert main("instance", "status", kept, *served.flags).returncode == 0


def test_old_instances_of_a_database_without_a_server(main: Main, db: str, folder: Path) -> None:
    done = main("db", "prune", "--db", db, "--yes")
    assert (done.returncode, "--older-than" in done.stderr, "--config" in done.stderr) == (2, True, True)
    (folder / "server.yaml").write_text(
        f"task-engine: {{storage: {{database: {{dsn: '{db}'}}, retention: {{success: 1h, failed: none}}}}}}\n"
    )
    assert main("db", "prune", "--config", "server.yaml", "--yes").stdout == "0 ended instances removed\n"
    assert main("db", "prune", "--db", db, "--older-than", "0s", "--status", "failed", "--yes").stdout.startswith("0 ")
    done = main("db", "prune", "--db", db, "--older-than", "0s", "--status", "success", "--yes")
    assert (done.returncode, done.stdout) == (0, "1 ended instance removed\n")
    assert main("db", "status", "--db", db, "--json").data["instances"] == {}
    rows = sqlite3.connect(folder / db).execute("SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM events)")
    assert rows.fetchone() == (0,), "nothing is left behind"


def test_beside_a_server_its_database_is_not_pruned(main: Main, served: Any) -> None:
    done = main("db", "prune", *served.db, "--older-than", "1d", "--yes")
    assert (done.returncode, served.address in done.stderr) == (5, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--status", "running"), "Running is not an end"),
        (("--status", "sucess"), "did you mean"),
        (("--older-than", "soon"), "soon"),
        (("--older-than", "-1d"), "-1d"),
    ],
)
def test_a_prune_of_nonsense(main: Main, served: Any, words: tuple[str, ...], said: str) -> None:
    done = main("db", "prune", *words, "--yes", *served.flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


# -- passwords


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--db"),
        ("migrate", "--db"),
        ("migrate", "--check", "--db"),
        ("backup", "x", "--db"),
        ("move", "a.db"),
    ],
    ids=" ".join,
)
def test_a_password_is_never_shown(main: Main, db: str, words: tuple[str, ...]) -> None:
    done = main("db", *words, NOBODY)
    assert done.returncode == 1
    assert "s3kret" not in done.stdout + done.stderr


def test_a_password_need_not_be_typed(main: Main, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", db)
    assert main("db", "status", "--db", "${ENV:WHERE}", "--json").data["kind"] == "sqlite"
    assert main("db", "move", "${ENV:WHERE}", "${ENV:THERE:b.db}").returncode == 0
    done = main("db", "migrate", "--db", "${ENV:NOWHERE}")
    assert (done.returncode, "`NOWHERE`" in done.stderr) == (2, True)


# -- migrate


def test_what_is_missing_is_said_and_then_taken(main: Main, old: str, folder: Path) -> None:
    path = f"sqlite://{folder / old}"
    listed = ", ".join(STEPS[1:])
    before = (folder / old).read_bytes()
    done = main("db", "migrate", "--check", "--db", old)
    assert (done.returncode, done.stdout) == (1, f"{path} has schema 1 and lacks steps {listed}\n")
    assert (folder / old).read_bytes() == before
    assert f"Schema     1; `taskengine db migrate` takes steps {listed}\n" in main("db", "status", "--db", old).stdout
    done = main("db", "migrate", "--db", old)
    assert (done.returncode, done.stdout) == (0, f"{path} has schema {len(STEPS)} now: steps {listed}\n")
    for words in (("--check",), ()):
        done = main("db", "migrate", "--db", old, *words)
        assert (done.returncode, done.stdout) == (0, f"{path} has schema {len(STEPS)}, which is the newest\n")


def test_the_steps_as_data(main: Main, old: str) -> None:
    found = main("db", "migrate", "--check", "--db", old, "--json").data
    assert {name: found[name] for name in ("schema", "known", "taken", "missing")} == {
        "schema": 1,
        "known": len(STEPS),
        "taken": [],
        "missing": STEPS[1:],
    }
    found = main("db", "migrate", "--db", old, "--json").data
    assert (found["schema"], found["taken"], found["missing"]) == (len(STEPS), STEPS[1:], [])


def test_a_new_database_is_made(main: Main, folder: Path) -> None:
    assert main("db", "migrate", "--check", "--db", "new.db").returncode == 1
    assert not (folder / "new.db").exists()
    assert main("db", "migrate", "--db", "new.db").returncode == 0
    assert main("db", "status", "--db", "new.db", "--json").data["instances"] == {}


def test_beside_a_server_it_can_be_asked_and_has_nothing_to_do(main: Main, served: Any) -> None:
    for words in (("--check",), ()):
        assert main("db", "migrate", *words, *served.db).returncode == 0


def test_a_database_that_somebody_has_is_not_migrated(main: Main, old: str, folder: Path) -> None:
    from taskengine.store.lock import FileLock

    lock = FileLock(folder / old)
    lock.acquire()
    try:
        done = main("db", "migrate", "--db", old)
        assert (done.returncode, f"pid {os.getpid()}" in done.stderr) == (5, True)
        assert main("db", "migrate", "--db", old, "--check").returncode == 1
    finally:
        lock.release()


@pytest.mark.parametrize(
    "words", [("status",), ("migrate",), ("migrate", "--check"), ("status", "--checksums")], ids=" ".join
)
def test_an_older_program_refuses_a_newer_database(main: Main, newer: str, words: tuple[str, ...]) -> None:
    done = main("db", *words, "--db", newer)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has schema 999, this program knows up to" in done.stderr


# -- backup


def test_a_copy_of_a_server_s_database(main: Main, served: Any, upload: Callable[..., str], folder: Path) -> None:
    workflow_id = upload("name: a, job: noop")
    assert main("workflow", "execute", workflow_id, "--wait", *served.flags).returncode == 0
    done = main("db", "backup", "copy.db", "--json", *served.db)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.data == {
        "database": f"sqlite://{served.store}",
        "file": str(folder / "copy.db"),
        "size_bytes": (folder / "copy.db").stat().st_size,
        "schema": len(STEPS),
        "commands": [],
    }
    assert (folder / "copy.db").stat().st_mode & 0o777 == 0o600
    listed = main("instance", "list", "--workflow", workflow_id, "-o", "jsonl", "--db", "copy.db")
    assert listed.stdout == main("instance", "list", "--workflow", workflow_id, "-o", "jsonl", *served.db).stdout
    assert main("db", "status", "--db", "copy.db", "--json").data["holder"] is None


def test_the_copy_is_of_the_server_that_runs_here(main: Main, served: Any, folder: Path) -> None:
    served.note_in(Path(os.environ["TASKENGINE_HOME"]))
    assert main("db", "backup", "copy.db", "-o", "id").stdout == f"{folder / 'copy.db'}\n"


def test_a_file_is_replaced_only_by_force(main: Main, db: str, folder: Path) -> None:
    (folder / "copy.db").write_text("precious")
    done = main("db", "backup", "copy.db", "--db", db)
    assert (done.returncode, done.stdout, "--force" in done.stderr) == (5, "", True)
    assert (folder / "copy.db").read_text() == "precious"
    done = main("db", "backup", "copy.db", "--db", db, "--force")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{folder / 'copy.db'}  ")
    assert main("db", "backup", db, "--db", db, "--force").returncode == 2


def test_a_copy_can_be_put_in_the_place_of_the_database(main: Main, db: str, folder: Path, workflow: Workflow) -> None:
    """As docs/databases.md tells it."""
    before = main("instance", "list", "-o", "jsonl", "--db", db).stdout
    assert main("db", "backup", "copy.db", "--db", db).returncode == 0
    assert main("run", workflow("name: a, job: noop"), "--db", db, "-o", "id").returncode == 0
    assert main("instance", "list", "-o", "jsonl", "--db", db).stdout != before
    for end in ("-wal", "-shm"):
        (folder / f"{db}{end}").unlink(missing_ok=True)
    shutil.copy(folder / "copy.db", folder / db)
    assert main("instance", "list", "-o", "jsonl", "--db", db).stdout == before
    assert main("run", workflow("name: a, job: noop"), "--db", db, "-o", "id").returncode == 0


@pytest.mark.parametrize(
    ("dsn", "first", "second"),
    [
        (
            "postgresql://me:s3kret@db.example:5433/engine?sslmode=require&password=s3kret",
            "pg_dump --format=custom '--file=my copy' 'postgresql://me@db.example:5433/engine?sslmode=require'",
            "pg_restore --clean --if-exists "
            "'--dbname=postgresql://me@db.example:5433/engine?sslmode=require' 'my copy'",
        ),
        (
            "mariadb://me:s3kret@db.example/engine",
            "mariadb-dump --host=db.example --port=3306 --user=me --single-transaction --quick "
            "'--result-file=my copy' engine",
            "mariadb --host=db.example --port=3306 --user=me engine < 'my copy'",
        ),
    ],
    ids=["postgresql_", "mysql_"],
)
def test_databases_with_programs_of_their_own(main: Main, folder: Path, dsn: str, first: str, second: str) -> None:
    done = main("db", "backup", "my copy", "--db", dsn)
    assert (done.returncode, "nothing was copied" in done.stderr) == (1, True)
    assert done.stdout == f"{first}\n{second}\n"
    found = main("db", "backup", "my copy", "--db", dsn, "--json").data
    assert (found["file"], len(found["commands"])) == (None, 2)
    assert "s3kret" not in done.stdout + done.stderr + str(found)
    assert not (folder / "my copy").exists()


# -- move


def test_a_move_shows_what_both_add_up_to(main: Main, db: str, folder: Path) -> None:
    done = main("db", "move", db, "b.db")
    assert done.returncode == 0
    assert done.lines[0].split() == ["TABLE", "ROWS", "SHA-256", "EQUAL"]
    rows = [line.split() for line in done.lines[1:]]
    assert [row[0] for row in rows] == [table.name for table in TABLES]
    assert {(len(row[2]), row[3]) for row in rows} == {(64, "yes")}
    assert "Both are equal" in done.stderr
    assert f"sqlite://{folder / 'b.db'}" in done.stderr
    assert main("instance", "list", "-o", "jsonl", "--db", "b.db").stdout == (
        main("instance", "list", "-o", "jsonl", "--db", db).stdout
    )
    assert f"Filled     from sqlite://{folder / db}, 20" in main("db", "status", "--db", "b.db").stdout
    assert main("db", "move", db, "c.db", "-q").stderr == ""


def test_where_large_results_are_is_told(main: Main, folder: Path) -> None:
    filled(folder / "from.db", 10)
    assert (
        f"large results are files and stay where they are, by default in {default_folder(str(folder / 'from.db'))}; "
        in (main("db", "move", "from.db", "to.db", "-q").stderr)
    )


def test_a_move_as_data(main: Main, db: str) -> None:
    found = main("db", "move", db, "b.db", "--json", "-q").data
    assert [list(each) for each in found[:1]] == [["table", "rows", "sha256", "equal", "target_rows", "target_sha256"]]
    assert all(each["equal"] and each["sha256"] == each["target_sha256"] for each in found)


def test_a_target_that_is_not_empty_is_refused(main: Main, db: str, old: str) -> None:
    assert main("db", "move", db, "b.db").returncode == 0
    done = main("db", "move", db, "b.db")
    assert (done.returncode, "has rows in definitions" in done.stderr) == (5, True)
    assert main("db", "move", db, "c.db", "--resume").returncode == 5
    assert main("db", "move", db, db).returncode == 2
    assert main("db", "move", "nothing.db", "d.db").returncode == 2


def test_a_database_that_a_server_has_is_not_moved(main: Main, served: Any, folder: Path) -> None:
    done = main("db", "move", served.store, "b.db")
    assert (done.returncode, served.address in done.stderr) == (5, True)
    assert not (folder / "b.db").exists()


SLOW = """
import sys, time
from taskengine.store import pages
from taskengine.store.sqlite import SqliteStore

pages.PAGE_ROWS = 20
copy_in = SqliteStore.copy_in

async def slowly(self, *anything):
    await copy_in(self, *anything)
    time.sleep(0.02)  # so that there is a middle in which to be cut off

SqliteStore.copy_in = slowly
from taskengine.cli.root import main

sys.exit(main(sys.argv[1:]))
"""


def note_of(path: Path) -> MoveNote | None:
    """How far the move is, looked at from outside."""
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            ((text,),) = db.execute("SELECT note FROM moves").fetchall()
        finally:
            db.close()
    except (sqlite3.Error, ValueError):
        return None
    return msgspec.json.decode(text, type=MoveNote)


@pytest.fixture
def moving(folder: Path, until: Until) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """A move of a hundred instances, which is in its middle."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str, rows: int = 300) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", SLOW, "db", "move", "from.db", "to.db", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        until(lambda: process.poll() is not None or ((note := note_of(folder / "to.db")) and note.rows >= rows))
        assert process.poll() is None, process.communicate()
        return process

    filled(folder / "from.db", 100)
    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda it: it.name)
def test_a_move_that_was_ended_goes_on(
    main: Main, moving: Callable[..., "subprocess.Popen[str]"], folder: Path, number: signal.Signals
) -> None:
    process = moving()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    reached = note_of(folder / "to.db")
    assert reached is not None
    assert out == ""
    if number is signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert (process.returncode, "taskengine db move from.db to.db --resume" in err) == (130, True)
    for words in (("serve", "--port", "0"), ("run", "--resume"), ("instance", "list"), ("token", "list")):
        done = main(*words, "--db", "to.db")
        assert (done.returncode, done.stdout) == (1, ""), words
        assert "db move FROM TO --resume" in done.stderr
    done = main("db", "status", "--db", "to.db")
    assert (
        f"Filled     in part from sqlite://{folder / 'from.db'}; `taskengine db move FROM TO --resume`" in done.stdout
    )
    assert main("db", "move", "from.db", "to.db").returncode == 5
    process = moving("--resume", rows=reached.rows + 100)
    process.kill()
    process.communicate()
    done = main("db", "move", "from.db", "to.db", "--resume")
    assert done.returncode == 0
    assert (
        main("db", "status", "--checksums", "--db", "to.db", "--json").data["checksums"]
        == (main("db", "status", "--checksums", "--db", "from.db", "--json").data["checksums"])
    )
    assert main("instance", "list", "--db", "to.db").returncode == 0


def test_meanwhile_nobody_else_has_either(
    main: Main, moving: Callable[..., "subprocess.Popen[str]"], workflow: Workflow
) -> None:
    process = moving()
    for words in (
        ("db", "move", "from.db", "c.db"),
        ("token", "list", "--db", "from.db"),
        ("db", "move", "to.db", "c.db"),
    ):
        done = main(*words)
        assert (done.returncode, f"pid {process.pid}" in done.stderr) == (5, True), words


def test_a_terminal_shows_how_far_it_is(terminal: Callable[..., Any], folder: Path) -> None:
    filled(folder / "from.db", 400)
    screen = terminal("db", "move", "from.db", "to.db")
    assert screen.end() == 0
    assert " rows" in screen.text
    assert " %" in screen.text
    assert "Both are equal" in screen.text


def test_a_difference_is_no_success(main: Main, db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskengine.store.sqlite import SqliteStore

    copy_in = SqliteStore.copy_in

    async def losing(self: Any, table: Any, rows: Any, note: Any) -> None:
        await copy_in(self, table, rows[:-1] if table.name == "tasks" else rows, note)

    monkeypatch.setattr(SqliteStore, "copy_in", losing)
    done = main("db", "move", db, "b.db")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.lines if line.endswith(" no")] == ["tasks"]
    assert "differ" in done.stderr
    assert main("instance", "list", "--db", "b.db").returncode == 1
