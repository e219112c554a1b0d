"""A full disk: nothing acknowledged is lost, what is there can be read, new work is refused; with room it goes on.

SQLite has two errors for it: SQLITE_FULL from a full file system, SQLITE_IOERR_WRITE from a limit of the process.
"""

import os
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from server.process import ServerProcess

BIG = "满" * 30_000
LIMIT_S = 40.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=12m,mode=0700", "taskengine-test", str(place)], check=False
    )
    if not made or made.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail("a small file system cannot be mounted, and CI must be able to")
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


class Client:
    """Starts instances with a large result until the server refuses; knows which were acknowledged."""

    def __init__(self, server: ServerProcess) -> None:
        self.http = httpx.Client(base_url=server.address, headers=server.headers, timeout=30, trust_env=False)
        definition = {"id": "big", "params": {"text": {"type": "string"}}, "tasks": [{"name": "keep", "job": "noop"}]}
        definition["tasks"][0]["params"] = {"text": "${{ params.text }}"}  # type: ignore[index]
        done = self.http.post("/api/v1/workflows", json=definition)
        assert done.status_code == 201, done.text
        self.acknowledged: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.http.close()

    def start(self) -> int:
        done = self.http.post("/api/v1/workflows/big/execute", json={"params": {"text": BIG}})
        if done.status_code == 202:
            self.acknowledged.append(done.json()["data"]["instance_id"])
        return done.status_code

    def until_refused(self) -> None:
        until(lambda: self.start() == 503, "be refused")

    def until_ended(self) -> None:
        """Every acknowledged instance is there and succeeds."""
        for instance in self.acknowledged:
            view = self.http.get(f"/api/v1/instances/{instance}", params={"wait": "20s"}).json()["data"]
            assert view["status"] == "Success", view


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s, f"it did not {what}"
        time.sleep(0.02)  # another process has no event to wait for


def check_while_full(client: Client, server: ServerProcess) -> None:
    """It refuses, reads and lives."""
    for _ in range(3):
        assert client.start() == 503
    first = client.acknowledged[0]
    assert client.http.get(f"/api/v1/instances/{first}").json()["data"]["id"] == first
    listed = client.http.get("/api/v1/instances", params={"limit": 5})
    assert (listed.status_code, len(listed.json()["data"]["items"])) == (200, min(5, len(client.acknowledged)))
    assert client.http.get("/livez").status_code == 200
    until(lambda: client.http.get("/readyz").status_code == 503, "say that it is not ready")
    assert server.process.poll() is None


def check_when_there_is_room(client: Client, server: ServerProcess) -> None:
    until(lambda: client.http.get("/readyz").status_code == 200, "be ready again")
    until(lambda: client.start() == 202, "take work again")
    client.until_ended()
    assert server.stop() == 0
    found: Any = sqlite3.connect(server.database)
    try:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = {row[0] for row in found.execute("SELECT id FROM instances WHERE state = 'Success'")}
    finally:
        found.close()
    assert set(client.acknowledged) <= stored


def test_a_full_file_system_is_survived(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 6 << 20)
    with ServerProcess(small_disk) as server, Client(server) as client:
        client.until_refused()
        check_while_full(client, server)
        ballast.unlink()
        check_when_there_is_room(client, server)


def test_a_limit_on_file_sizes_is_survived(tmp_path: Path) -> None:
    """As a quota has it. The process is told its limit while it runs, and another one later."""
    with ServerProcess(tmp_path) as server, Client(server) as client:
        assert client.start() == 202
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (3 << 20, resource.RLIM_INFINITY))
        client.until_refused()
        check_while_full(client, server)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        check_when_there_is_room(client, server)
