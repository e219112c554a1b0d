"""What keeps a server from starting is told in one or two lines, with a way out, and leaves nothing behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from server.process import PATIENCE_S, ServerProcess


def refused(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "taskengine", "serve", *arguments],
        cwd=folder,
        env={**os.environ, "TASKENGINE_HOME": str(folder / "home"), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_for_everyone_without_tls(tmp_path: Path, host: str) -> None:
    code, said = refused(tmp_path, "--port", "0", "--host", host)
    assert code == 2 or code == 1
    assert all(way in said for way in ("--host 127.0.0.1", "--tls-cert", "--behind-proxy"))
    assert not list(tmp_path.iterdir())


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        code, said = refused(tmp_path, "--port", str(port))
    assert code == 1
    assert f"port {port} of 127.0.0.1 is taken by pid {os.getpid()}" in said
    assert "--port 0" in said
    assert not list(tmp_path.iterdir())


def test_a_second_server_on_the_same_database_names_the_first(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        code, said = refused(tmp_path, "--port", "0", "--db", str(server.database))
        assert code == 5
        assert server.address in said
        assert str(server.pid) in said
        assert server.process.poll() is None


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (["--config", "c.yaml"], "server: {prot: 0}", "port"),
        (["--config", "c.yaml"], "server: [", "c.yaml"),
        (["--config", "gone.yaml"], "", "gone.yaml"),
        (["--app", "gone.py"], "", "gone.py"),
        (["--tls-cert", "c.yaml", "--tls-key", "c.yaml"], "no certificate", "PEM"),
        (["--tls-cert", "c.yaml"], "", "tls_key"),
        (["--log-level", "loud"], "", "warning"),
        (["--port", "70000"], "", "65,535"),
        (["--db", "postgresql://u:hunter2@nowhere.invalid/d"], "", "postgresql://u:***@nowhere.invalid/d"),
    ],
)
def test_a_mistake_in_the_settings(tmp_path: Path, arguments: list[str], text: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    given = arguments if "--port" in arguments else [*arguments, "--port", "0"]
    code, told = refused(tmp_path, *given)
    assert code in (1, 2)
    assert said in told
    assert "hunter2" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_an_unknown_variable_is_a_mistake_too(tmp_path: Path) -> None:
    code, told = refused(tmp_path, env={"TASKENGINE_SERVER__PROT": "1"})
    assert code in (1, 2)
    assert "TASKENGINE_SERVER__PORT" in told
