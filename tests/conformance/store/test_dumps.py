"""The command lines that `db backup` prints for database servers: what they copy and restore is all of it."""

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from databases.asking import ask
from databases.filling import fill
from databases.fixtures import every_server

from taskengine.ambient import Ambient
from taskengine.cli.root import main
from taskengine.clock import ManualClock
from taskengine.config.dsn import database_kind
from taskengine.store.checksums import Checksum, checksum
from taskengine.store.opening import open_store
from taskengine.store.sql_store import SqlStore
from taskengine.store.tables import TABLES


async def filled(dsn: str) -> list[Checksum]:
    store = open_store(dsn, Ambient(clock=ManualClock()))
    await store.open()
    await fill(store, 200)
    await store.close()
    return await sums(dsn)


async def sums(dsn: str) -> list[Checksum]:
    store = open_store(dsn, Ambient(clock=ManualClock()))
    assert isinstance(store, SqlStore)
    await store.open()
    try:
        return [await checksum(store, table) for table in TABLES]
    finally:
        await store.close()


def advice(dsn: str, file: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert main(["db", "backup", file, "--db", dsn]) == 1
    return capsys.readouterr().out.splitlines()


def run(command: str) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command.split()[0]} is not installed here")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@every_server
async def test_a_dump_that_is_restored_is_the_same(
    dsn: str, new_dsn: Callable[[str], str], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await filled(dsn)
    other = new_dsn(str(database_kind(dsn)))
    file = str(tmp_path / "my dump")
    dump, _ = advice(dsn, file, capsys)
    _, restore = advice(other, file, capsys)
    run(dump)
    run(restore)
    assert await sums(other) == before
    ((count,),) = ask(other, "SELECT count(*) FROM v_instances")[0]
    assert count == 200
    run(restore)  # again, over what is there
    assert await sums(other) == before
