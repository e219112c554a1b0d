"""taskengine/server/notify.py: what a service manager hears, through a real socket."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskengine.server.notify import Notifier


@pytest.fixture(params=["path", pytest.param("abstract", marks=pytest.mark.skipif(sys.platform != "linux", reason=""))])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket and its name as in `$NOTIFY_SOCKET`."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@taskengine-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.settimeout(5)
        yield sock, name


def test_the_manager_hears_every_stage(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("serves 行情")
    notifier.status("two\nlines")
    notifier.alive()
    notifier.stopping("bye")
    heard = [sock.recv(4096).decode() for _ in range(4)]
    assert heard == ["READY=1\nSTATUS=serves 行情", "STATUS=two lines", "WATCHDOG=1", "STOPPING=1\nSTATUS=bye"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_is_sent(environ: dict[str, str]) -> None:
    Notifier(environ).ready("")


def test_a_manager_that_has_gone_does_no_harm(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("")


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_and_only_our_own(
    environ: dict[str, str], period_s: float | None
) -> None:
    assert Notifier(environ).watchdog_s == period_s
