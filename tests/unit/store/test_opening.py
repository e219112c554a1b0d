"""Addresses of stores, and the places of files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskengine.ambient import Ambient
from taskengine.errors import InvalidConfiguration, StoreUnavailable, Unavailable
from taskengine.store.memory import MemoryStore
from taskengine.store.opening import open_store
from taskengine.store.place import mount_type, network_type
from taskengine.store.served import ServedStore
from taskengine.store.sqlite import SqliteStore

PATHS = {
    "/data/engine.db": "/data/engine.db",
    "engine.db": "{cwd}/engine.db",
    "../流程 1.db": "{parent}/流程 1.db",
    "~/engine.db": "{home}/engine.db",
    "what?.db": "{cwd}/what?.db",
    "sqlite:///data/engine.db": "/data/engine.db",
    "sqlite:////data/engine.db": "/data/engine.db",
    "SQLite:///./engine.db": "{cwd}/engine.db",
    "sqlite:///../engine.db": "{parent}/engine.db",
    "sqlite:///~/engine.db": "{home}/engine.db",
    "sqlite:///data/%E6%B5%81%3F.db": "/data/流?.db",
    "sqlite:///data/a.db?allow_network=true": "/data/a.db",
}


@pytest.mark.parametrize("dsn", PATHS)
def test_an_address_names_a_file(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    store = open_store(dsn, Ambient())
    assert isinstance(store, SqliteStore)
    assert str(store.path) == PATHS[dsn].format(cwd=folder, parent=tmp_path, home=tmp_path / "me")
    assert list(folder.iterdir()) == []


def test_memory_is_a_store() -> None:
    assert isinstance(open_store("memory://", Ambient()), MemoryStore)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "mysql", "MariaDB"])
def test_a_server_is_a_store_and_nobody_is_asked_before_it_opens(scheme: str) -> None:
    assert isinstance(open_store(f"{scheme}://me:geheim@127.0.0.1:1/db", Ambient()), ServedStore)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_server_that_is_away_is_unavailable(scheme: str) -> None:
    store = open_store(f"{scheme}://me:geheim@127.0.0.1:1/db", Ambient())
    with pytest.raises(StoreUnavailable) as failed:
        await store.open()
    assert "127.0.0.1" in str(failed.value)
    assert "geheim" not in str(failed.value)
    with pytest.raises(Unavailable):
        await store.instance("i")


WRONG_SERVERS = {
    "postgresql://me:geheim@host/db?colour=red": 'invalid URI query parameter: "colour"',
    "mysql://me:geheim@host": "has to name one database behind the host; such as mysql://user",
    "mysql://me:geheim@host:port/db": "is no address of a MySQL database: its port",
    "mysql://me:geheim@host/db?colour=red": "no option 'colour'; there are charset, ssl_ca, ssl_cert",
    "mysql://me:geheim@host/db?ssl_ca=/no/such/file": "its certificates cannot be read: ",
    "mysql://me:geheim@host/db?ssl_mode=sometimes": "ssl_mode is one of disabled, required",
    "mysql://me:geheim@host/db?ssl_mode=disabled&ssl_ca=x": "ssl_mode is disabled, so ssl_ca",
    "mysql://me:geheim@host/db?charset=latin1": "the character set is always utf8mb4",
}


@pytest.mark.parametrize("dsn", WRONG_SERVERS)
def test_a_wrong_address_of_a_server_is_told_without_its_password(dsn: str) -> None:
    with pytest.raises(InvalidConfiguration) as failed:
        open_store(dsn, Ambient())
    assert WRONG_SERVERS[dsn] in str(failed.value)
    assert "geheim" not in str(failed.value)


WRONG = [
    "redis://me:geheim@host",
    "sqlite://geheim/a.db",
    "sqlite://",
    "sqlite:///",
    "",
    "  ",
    "a\0b",
    "sqlite:///a.db?mode=geheim",
    "sqlite:///a.db?allow_network=geheim",
]


@pytest.mark.parametrize("dsn", WRONG)
def test_a_wrong_address_is_answered_with_examples_and_not_repeated(dsn: str) -> None:
    with pytest.raises(InvalidConfiguration) as failed:
        open_store(dsn, Ambient())
    assert "geheim" not in str(failed.value)
    assert "allow_network" in str(failed.value) or "sqlite:///./engine.db" in str(failed.value)


@pytest.mark.parametrize("dsn", ["memory://", "engine.db", "sqlite:///./engine.db"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"durability": "off"}, "full or normal, not 'off'"),
        ({"durability": ""}, "full or normal"),
        ({"durability": None}, "full or normal"),
        ({"readers": 0}, "from 1 to 64, not 0"),
        ({"readers": -1}, "from 1 to 64"),
        ({"readers": 65}, "from 1 to 64"),
        ({"readers": True}, "not True"),
        ({"readers": 2.0}, "whole number"),
        ({"readers": "2"}, "not '2'"),
    ],
    ids=str,
)
def test_an_option_that_means_nothing_is_refused(dsn: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        open_store(dsn, Ambient(), **options)


@pytest.mark.parametrize("dsn", ["{folder}/engine.db", "sqlite://{folder}/engine.db"])
@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_durability_is_the_databases_own_setting(dsn: str, durability: Any, level: int, tmp_path: Path) -> None:
    store = open_store(dsn.format(folder=tmp_path), Ambient(), durability=durability)
    assert isinstance(store, SqliteStore)
    await store.open()
    try:
        found = await store._writer.run(lambda db: db.execute("PRAGMA synchronous").fetchone())
    finally:
        await store.close()
    assert found == (level,)


def test_a_driver_is_loaded_only_when_an_address_asks_for_it() -> None:
    script = (
        "import sys; from taskengine.ambient import Ambient; from taskengine.store.opening import open_store\n"
        "open_store('memory://', Ambient()); assert 'aiosqlite' not in sys.modules and 'sqlite3' not in sys.modules\n"
        "open_store('a.db', Ambient()); assert 'aiosqlite' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /mnt/net\\040share rw - nfs4 server:/export rw
31 30 0:27 / /mnt/net\\040share/local rw - xfs /dev/b rw
32 22 0:28 / /over rw - ext4 /dev/c rw
33 22 0:29 / /over rw - fuse.sshfs me@host: rw
a line of another kind
""".splitlines()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/a.db", "ext4"),
        ("/mnt/net share/a.db", "nfs4"),
        ("/mnt/net share", "nfs4"),
        ("/mnt/net share/local/deep/a.db", "xfs"),
        ("/mnt/net shared/a.db", "ext4"),
        ("/over/a.db", "fuse.sshfs"),
    ],
)
def test_the_mount_on_top_decides(path: str, kind: str) -> None:
    assert mount_type(Path(path), MOUNTS) == kind


def test_network_types_are_known() -> None:
    for kind in ("nfs", "nfs4", "cifs", "smb3", "smb2", "fuse.sshfs", "9p", "ceph", "fuse.glusterfs"):
        assert network_type(kind) == kind
    for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuse.ntfs", "fuseblk", ""):
        assert network_type(kind) == ""
