"""taskengine/config: notes of running servers, the places of this user, addresses without passwords."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from taskengine.clock import Micros
from taskengine.config.dsn import password_of, shown_dsn
from taskengine.config.places import data_folder, servers_folder
from taskengine.config.presence import ServerNote, live_servers, remove_note, write_note


def note(pid: int = os.getpid(), started_us: int = 1) -> ServerNote:
    return ServerNote(
        address="http://127.0.0.1:8080", pid=pid, token_file="/数据/token", store="/x.db", started_us=Micros(started_us)
    )


def test_a_note_is_found_until_it_is_removed() -> None:
    assert live_servers() == []
    path = write_note(note())
    (found,) = live_servers()
    assert (found.address, found.pid, found.token_file) == ("http://127.0.0.1:8080", os.getpid(), "/数据/token")
    remove_note(path)
    remove_note(path)
    assert live_servers() == []


def test_the_newest_server_comes_first() -> None:
    for started_us in (2, 3, 1):
        write_note(note(started_us=started_us))
    assert [each.started_us for each in live_servers()] == [3, 2, 1]


def test_a_note_is_for_nobody_elses_eyes() -> None:
    path = write_note(note())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_note_of_a_dead_process_is_passed_over_and_swept_away() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    path = write_note(note(pid=child.pid))
    assert live_servers() == []
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process began")
def test_another_process_with_the_same_id_is_not_taken_for_the_server() -> None:
    path = write_note(note())
    written = msgspec.json.decode(path.read_bytes(), type=ServerNote)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(written, birth="another boot/12345")))
    assert live_servers() == []


@pytest.mark.parametrize("text", [b"", b"{", b'{"pid": "x"}', b"\xff"])
def test_a_broken_note_is_passed_over(text: bytes) -> None:
    path = write_note(note())
    path.with_name("broken.json").write_bytes(text)
    assert len(live_servers()) == 1


def test_notes_lie_in_the_data_folder() -> None:
    assert servers_folder() == data_folder() / "servers"


@pytest.mark.parametrize(
    ("dsn", "seen", "password"),
    [
        ("./data/a.db", "./data/a.db", ""),
        ("sqlite:///a@b:c.db", "sqlite:///a@b:c.db", ""),
        ("postgresql://me:s%40cret@db:5432/x", "postgresql://me:***@db:5432/x", "s@cret"),
        ("mysql://me:a@b@db/x?ssl=1", "mysql://me:***@db/x?ssl=1", "a@b"),
        ("postgresql://me@db/x?password=geheim&a=1", "postgresql://me@db/x?password=***&a=1", "geheim"),
        ("postgresql://me@db/x", "postgresql://me@db/x", ""),
    ],
)
def test_an_address_is_shown_without_its_password(dsn: str, seen: str, password: str) -> None:
    assert shown_dsn(dsn) == seen
    assert password_of(dsn) == password
