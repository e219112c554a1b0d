"""MySQL and MariaDB beyond what every store must do: logging in, what a server promises, what a cut leaves there."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncmy
import pytest
from databases.asking import ask
from databases.servers import new_database, server
from hypothesis import given, settings
from hypothesis import strategies as st

from taskengine.ambient import Ambient
from taskengine.errors import BatchRefused, InvalidConfiguration, SchemaTooNew, StoreError, StoreUnavailable
from taskengine.model.records import TaskChange, TaskGuard, TaskRow
from taskengine.model.states import TaskState
from taskengine.store import mysql
from taskengine.store.batch import merge
from taskengine.store.interface import Store
from taskengine.store.migrations import Migration, load
from taskengine.store.mysql import MySqlDriver
from taskengine.store.mysql_link import MySqlLink
from taskengine.store.mysql_text import literal
from taskengine.store.opening import open_store
from taskengine.store.queries import folder

pytestmark = pytest.mark.servers


@pytest.fixture
def driver(mysql_dsn: str) -> MySqlDriver:
    return MySqlDriver(mysql_dsn, Ambient(), durability="full")


@pytest.fixture
async def store(mysql_dsn: str) -> AsyncIterator[Store]:
    opened = open_store(mysql_dsn, Ambient())
    await opened.open()
    yield opened
    await opened.close()


async def _link(driver: MySqlDriver, purpose: Any = "lane") -> MySqlLink:
    link = await driver.connect(purpose)
    assert isinstance(link, MySqlLink)
    return link


# -- values ------------------------------------------------------------------------------------------------------------


async def test_the_server_reads_any_text_as_it_was(driver: MySqlDriver) -> None:
    seen: list[str] = ["".join(map(chr, range(0x300))), "\\", "\\u0041", '"\\"', "🚀\U0010ffff", "%s %%", ""]

    @given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\"'\x00u0%_Z")))
    @settings(max_examples=150)
    def collect(text: str) -> None:
        seen.append(text)

    collect()  # the link lives on this loop, and hypothesis calls plain functions
    link = await _link(driver)
    for at in range(0, len(seen), 50):
        part = seen[at : at + 50]
        marks = " UNION ALL ".join(f"SELECT {n}, %s" for n in range(len(part)))
        found = await link.rows(f"{marks} ORDER BY 1", part)
        assert [text for _, text in found] == part
    await link.close()


async def test_numbers_and_nothing_are_read_as_they_were(driver: MySqlDriver) -> None:
    link = await _link(driver)
    values = [0, -1, (1 << 63) - 1, -(1 << 63), None]
    assert list(await link.rows("SELECT %s, %s, %s, %s, %s", values)) == [tuple(values)]
    await link.close()


# -- batches -----------------------------------------------------------------------------------------------------------


def _finish(make: Any, seq: int, results: Sequence[bytes]) -> Any:
    """All of the instance's tasks end, each with its result."""
    changes = tuple(
        TaskChange(
            TaskRow(ordinal=n, name=f"t{n}", state=TaskState.SUCCESS, attempt=1, result=result),
            TaskGuard(TaskState.READY, 1),
        )
        for n, result in enumerate(results)
    )
    return make.decision("i", seq, tasks=changes)


MOST = 1 << 20


@pytest.fixture
async def narrow(mysql_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """A store whose server is said to take a megabyte at once."""
    monkeypatch.setattr(mysql, "_ABOUT", mysql._ABOUT.replace("@@max_allowed_packet", f"{MOST}"))
    opened = open_store(mysql_dsn, Ambient())
    await opened.open()
    yield opened
    await opened.close()


async def test_a_batch_larger_than_a_packet_is_one_all_the_same(narrow: Store, make: Any) -> None:
    store, results = narrow, [b'"%b"' % (b"x" * (MOST // 3)) for _ in range(5)]
    await store.commit(merge([make.start("i", tasks=5)], epoch=store.epoch, lane=0, number=1, acknowledged=0))
    ended = _finish(make, 2, results)
    with pytest.raises(BatchRefused, match="moved"):
        await store.commit(
            merge([ended, make.start("j"), make.stale("k", 1)], epoch=store.epoch, lane=0, number=2, acknowledged=1)
        )
    assert await store.results("i", range(5)) == {}
    assert await store.instance("j") is None
    await store.commit(merge([ended], epoch=store.epoch, lane=0, number=3, acknowledged=1))
    assert list((await store.results("i", range(5))).values()) == results


async def test_a_row_larger_than_a_packet_is_refused_and_the_link_goes_on(narrow: Store, make: Any) -> None:
    store = narrow
    await store.commit(merge([make.start("i")], epoch=store.epoch, lane=0, number=1, acknowledged=0))
    large = _finish(make, 2, [b'"%b"' % (b"x" * MOST)])
    with pytest.raises(BatchRefused, match=r"unfit \(a row of .* bytes, and this server's max_allowed_packet is"):
        await store.commit(merge([large], epoch=store.epoch, lane=0, number=2, acknowledged=1))
    small = _finish(make, 2, [b'"x"'])
    await store.commit(merge([small], epoch=store.epoch, lane=0, number=3, acknowledged=1))
    assert await store.results("i", [0]) == {0: b'"x"'}


async def test_a_batch_that_loses_a_deadlock_is_tried_again_at_once(store: Store, make: Any, mysql_dsn: str) -> None:
    """The other one has written more, so the server gives the batch up, and does so once."""
    start = [make.start(name) for name in ("a", "b", *(f"c{n}" for n in range(50)))]
    await store.commit(merge(start, epoch=store.epoch, lane=0, number=1, acknowledged=0))
    other = await _raw(mysql_dsn)
    await other.query("START TRANSACTION")
    await other.query("UPDATE tasks SET reason = 'held' WHERE instance_id = 'b' OR instance_id LIKE 'c%'")
    moves = [make.move(name, 2) for name in ("a", "b")]
    writing = asyncio.ensure_future(
        store.commit(merge(moves, epoch=store.epoch, lane=0, number=2, acknowledged=1))
    )  # fmt: skip
    await _until_waiting(mysql_dsn)
    await other.query("UPDATE tasks SET reason = 'held' WHERE instance_id = 'a'")
    await other.query("COMMIT")
    await writing
    assert {task.state for name in ("a", "b") for task in await store.tasks(name)} == {TaskState.RUNNING}
    await other.ensure_closed()


async def _raw(dsn: str) -> Any:
    driver = MySqlDriver(dsn, Ambient(), durability="full")
    return await asyncmy.connect(**driver._said, charset="utf8mb4", autocommit=True)


async def _until_waiting(dsn: str) -> None:
    """Until a transaction waits for another one's row."""
    for _ in range(50):
        ((count,),) = ask(dsn, "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")[0]
        if count:
            return
        await asyncio.sleep(0.2)  # the server tells nobody, and its answer stays the same when it is asked sooner
    raise AssertionError("nobody waits")


# -- the dead ----------------------------------------------------------------------------------------------------------


async def test_burying_a_link_ends_its_transaction_and_its_locks(driver: MySqlDriver, store: Store) -> None:
    """As if the line to it were silent: over there it lives."""
    dead, link = await _link(driver), await _link(driver)
    await dead.rows("START TRANSACTION", ())
    await dead.rows("INSERT INTO batches (epoch, lane, number) VALUES (99, 0, 1)", ())
    await dead.rows("SELECT GET_LOCK('taskengine test', 0)", ())
    await driver.bury(link, dead)
    await link.rows("INSERT INTO batches (epoch, lane, number) VALUES (99, 0, 1)", ())  # waits for the rollback
    assert list(await link.rows("SELECT GET_LOCK('taskengine test', 3)", ())) == [(1,)]
    with pytest.raises(StoreUnavailable):
        await dead.rows("SELECT 1", ())
    assert not dead.alive
    await link.close()


async def test_burying_a_link_that_is_gone_touches_nobody(driver: MySqlDriver) -> None:
    dead, link, other = await _link(driver), await _link(driver), await _link(driver)
    await dead.close()
    await driver.bury(link, dead)
    assert list(await other.rows("SELECT 1", ())) == list(await link.rows("SELECT 1", ())) == [(1,)]
    await link.close()
    await other.close()


async def test_a_question_that_was_cancelled_does_not_go_on_for_long(driver: MySqlDriver, mysql_dsn: str) -> None:
    reader = await _link(driver, "reader")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.rows("SELECT SLEEP(20)", ())
    assert not reader.alive
    sleeping = "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND info LIKE 'SELECT SLEEP%'"
    assert ask(mysql_dsn, sleeping)[0] == [(1,)]
    again = await _link(driver, "reader")
    await driver.bury(again, reader)
    for _ in range(100):
        if ask(mysql_dsn, sleeping)[0] == [(0,)]:
            break
        await asyncio.sleep(0.02)  # the server looks when it looks
    else:
        raise AssertionError("it sleeps on")
    await reader.close()
    await again.close()


async def test_a_silent_lane_is_ended_by_the_server_long_after_it_should_have_been_kept(driver: MySqlDriver) -> None:
    lane, reader = await _link(driver), await _link(driver, "reader")
    ((idle_s, row_s),) = await lane.rows("SELECT @@wait_timeout, @@innodb_lock_wait_timeout", ())
    assert 3 * 20 < idle_s <= 120
    assert row_s == 10
    ((isolation,),) = await lane.rows("SELECT @@tx_isolation", ())  # MySQL calls it transaction_isolation
    assert isolation == "READ-COMMITTED"
    with pytest.raises(StoreUnavailable, match="READ ONLY"):
        await reader.rows("DELETE FROM batches", ())
    await lane.close()
    await reader.close()


async def test_a_server_that_says_nothing_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql, "_CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system takes connections for it, and nobody speaks
        port = silent.getsockname()[1]
        driver = MySqlDriver(f"mysql://u:geheim@127.0.0.1:{port}/d", Ambient(), durability="full")
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable, match=r"no answer within 0\.2 s") as failed:
                await driver.connect("lane")
    assert "geheim" not in str(failed.value)


# -- who may log in, and what a server promises ------------------------------------------------------------------------


@pytest.fixture
def user(mysql_dsn: str) -> Iterator[str]:
    """Who may log in with a password, and do nothing else."""
    name = f"te_{os.getpid()}"
    ask(mysql_dsn, f"CREATE USER '{name}'@'%' IDENTIFIED BY 'geheim'")
    yield name
    ask(mysql_dsn, f"DROP USER '{name}'@'%'")


def _as(dsn: str, user: str, password: str) -> str:
    scheme, _, rest = dsn.partition("://")
    return f"{scheme}://{user}:{password}@{rest.rpartition('@')[2]}"


async def _why_not(dsn: str) -> str:
    opened = open_store(dsn, Ambient())
    with pytest.raises(InvalidConfiguration) as failed:
        await opened.open()
    return str(failed.value)


async def test_a_wrong_password_is_told_with_what_to_check(mysql_dsn: str, user: str) -> None:
    why = await _why_not(_as(mysql_dsn, user, "falsch"))
    assert "Access denied" in why
    assert "check the user, the password and ssl_mode of database.dsn" in why
    assert "falsch" not in why


async def test_a_user_without_rights_is_told_the_grant(mysql_dsn: str, user: str) -> None:
    assert "GRANT ALL ON name.* TO" in await _why_not(_as(mysql_dsn, user, "geheim"))


async def test_a_user_with_all_rights_on_the_database_is_enough(mysql_dsn: str, user: str) -> None:
    name = mysql_dsn.rpartition("/")[2]
    ask(mysql_dsn, f"GRANT ALL ON {name}.* TO '{user}'@'%'")
    opened = open_store(_as(mysql_dsn, user, "geheim"), Ambient())
    await opened.open()
    assert (await opened.status()).schema == len(load(folder("mysql")))
    await opened.close()


async def test_a_database_that_is_not_there_is_told_how_to_make_it(mysql_dsn: str) -> None:
    assert "CREATE DATABASE" in await _why_not(f"{mysql_dsn}_of_nobody")


async def test_tables_of_somebody_else_are_left_alone() -> None:
    dsn = new_database("mysql")
    ask(dsn, "CREATE TABLE tasks (theirs INT)")
    assert "tables with our names that are not ours" in await _why_not(dsn)
    assert ask(dsn, "SHOW TABLES")[0] == [("tasks",)]


WEAK = {
    ("2", "0", "0"): ["innodb_flush_log_at_trx_commit"],
    ("0", "1", "0"): ["innodb_flush_log_at_trx_commit", "sync_binlog"],
    ("1", "1", "0"): ["sync_binlog"],
    ("1", "0", "0"): [],
    ("1", "1", "1"): [],
}


@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("said", WEAK, ids=" ".join)
async def test_a_server_that_promises_less_is_warned_about(
    mysql_dsn: str, said: tuple[str, str, str], durability: Any, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are the whole server's, so the test puts its own values into the question."""
    about = mysql._ABOUT
    for name, value in zip(("@@innodb_flush_log_at_trx_commit", "@@log_bin", "@@sync_binlog"), said, strict=True):
        about = about.replace(name, value)
    monkeypatch.setattr(mysql, "_ABOUT", about)
    driver = MySqlDriver(mysql_dsn, Ambient(log=log), durability=durability)
    for purpose in ("lane", "owner", "reader"):
        await (await _link(driver, purpose)).close()
    warned = [fields["setting"] for event, fields in log.lines if event == "store.durability_weak"]
    assert warned == (WEAK[said] if durability == "full" else [])


# -- migrations --------------------------------------------------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from taskengine.ambient import Ambient
from taskengine.store.migrations import load
from taskengine.store.mysql import MySqlDriver
from taskengine.store.mysql_link import MySqlLink
from taskengine.store.queries import folder

die_at, asked, rows = int(sys.argv[2]), 0, MySqlLink.rows

async def counted(self, *args, **options):
    global asked
    asked += 1
    if asked == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return await rows(self, *args, **options)

async def main():
    driver = MySqlDriver(sys.argv[1], Ambient(), durability="full")
    link = await driver.connect("owner")
    MySqlLink.rows = counted
    await driver.migrate(link, load(folder("mysql")), 5)
    await link.close()

asyncio.run(main())
print(asked)
"""


def _migrate(dsn: str, die_at: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", KILLED, dsn, str(die_at)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _schema(dsn: str) -> Any:
    found = ask(
        dsn,
        "SELECT table_name, column_name, column_type, is_nullable, collation_name, extra, generation_expression"
        " FROM information_schema.columns WHERE table_schema = database() ORDER BY 1, 2",
        "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics"
        " WHERE table_schema = database() ORDER BY 1, 2, 3",
    )
    return [[tuple(row) for row in rows] for rows in found]


def test_a_migration_that_was_killed_anywhere_is_resumed() -> None:
    """Before and after each of the last statements too, which a table that knows them twice would refuse."""
    whole = new_database("mysql")
    asked = int(_migrate(whole, 0).stdout)
    assert asked > 30
    expected = _schema(whole)
    assert len(expected[0]) > 80
    for die_at in (2, 4, 7, asked // 2, *range(asked - 7, asked + 1)):
        dsn = new_database("mysql")
        assert _migrate(dsn, die_at).returncode == -signal.SIGKILL
        assert _schema(dsn) != expected or die_at >= asked - 2
        done = _migrate(dsn, 0)
        assert done.returncode == 0, done.stderr
        assert _schema(dsn) == expected
        assert ask(dsn, "SELECT number, at_us FROM taskengine_migrations ORDER BY number")[0] == [
            (step.number, 5) for step in load(folder("mysql"))
        ]


def _step(number: int, *statements: str) -> Migration:
    return Migration(number=number, name="x", statements=statements)


async def test_a_statement_that_fails_is_not_taken_for_done() -> None:
    """A name that is taken means `done before` only where this very statement may have been."""
    driver = MySqlDriver(new_database("mysql"), Ambient(), durability="full")
    link = await _link(driver, "owner")
    twice = _step(1, "CREATE TABLE a (x INT)", "CREATE INDEX y ON a (x)", "CREATE INDEX y ON a (x)")
    with pytest.raises(StoreError, match="1061"):
        await driver.migrate(link, [twice], 5)
    assert await driver.applied(link) == 0
    await link.close()


async def test_an_older_program_refuses_a_newer_database() -> None:
    driver = MySqlDriver(new_database("mysql"), Ambient(), durability="full")
    link = await _link(driver, "owner")
    steps = load(folder("mysql"))
    newer = _step(len(steps) + 1, "CREATE TABLE later (x INT)")
    assert await driver.migrate(link, [*steps, newer], 5) == len(steps) + 1
    with pytest.raises(SchemaTooNew):
        await driver.migrate(link, steps, 5)
    await link.close()


def test_the_server_takes_spaces_at_the_end_for_what_they_are(mysql_dsn: str) -> None:
    """What the collation is for: `a` and `a ` are two ids. And the order is that of code points."""
    found = ask(
        server("mysql"),
        f"SELECT _utf8mb4'a' COLLATE {mysql._EXACT['MariaDB']} = _utf8mb4'a '",
        f"SELECT _utf8mb4'Z' COLLATE {mysql._EXACT['MariaDB']} < _utf8mb4'a'",
    )
    assert found == [[(0,)], [(1,)]]
    assert literal("a ") == b'"a "'


def test_every_statement_of_the_schema_names_its_collation() -> None:
    """Else a column would have the one of the server's configuration."""
    for step in load(folder("mysql")):
        for statement in step.statements:
            assert "{exact}" in statement or not statement.startswith("CREATE TABLE"), statement[:60]
