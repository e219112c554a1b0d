"""A real server begins: what it makes, what it says, whom it answers, and what it goes on with after kill -9."""

import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from server.process import PATIENCE_S, ServerProcess

JOBS = """
import asyncio, os
from taskengine import TaskContext, job

@job("hold")
async def hold(ctx: TaskContext, gate: str) -> int:
    while not os.path.exists(gate):
        await asyncio.sleep(0.01)
    return ctx.attempt

@job("loop")
async def loop() -> str:
    return type(asyncio.get_running_loop()).__module__
"""

SLOW_RECOVERY = """
import os
from taskengine.engine.recovery import Recovery

over = Recovery.over.fget
Recovery.over = property(lambda self: os.path.exists({gate!r}) and over(self))
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "工作.py"
    path.write_text(JOBS, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    path.mkdir()
    return path


def client(server: ServerProcess) -> httpx.Client:
    return httpx.Client(base_url=server.address, headers=server.headers, trust_env=False, timeout=PATIENCE_S)


def upload(asker: httpx.Client, text: str) -> None:
    answer = asker.post("/api/v1/workflows", content=text.encode(), headers={"Content-Type": "application/yaml"})
    assert answer.status_code in (200, 201), answer.text


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- the first start ---------------------------------------------------------------------------------------------


def test_what_it_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, settings={"STORAGE__DATABASE__DSN": "ignored.db"}) as server:
        assert server.token.startswith("te_")
        assert mode(tmp_path / "token") == 0o600
        assert {mode(path) for path in tmp_path.glob("engine.db*")} == {0o600}
        assert mode(server.home / "servers") == 0o700
        assert {mode(path) for path in (server.home / "servers").iterdir()} == {0o600}
    assert not (tmp_path / "ignored.db").exists()  # the flag is stronger


def test_the_folder_of_the_state_is_made_closed(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("task-engine: {storage: {database: {dsn: new/数据.db}}}\nserver: {port: 0}")
    with Started(tmp_path, "--config", "c.yaml"):
        assert mode(tmp_path / "new") == 0o700
        assert mode(tmp_path / "new" / "token") == 0o600
        assert (tmp_path / "new" / "数据.db").exists()


class Started:
    """`taskengine` with arguments of the test's own, until it is ready."""

    def __init__(self, folder: Path, *arguments: str, name: str = "serve", env: dict[str, str] | None = None) -> None:
        self.home = folder / "home"
        self.log = folder / "said"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskengine", *name.split(), *arguments],
                cwd=folder,
                env={**os.environ, "TASKENGINE_HOME": str(self.home), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def __enter__(self) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while not (notes := list((self.home / "servers").glob("*.json"))):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)  # another process has no event to wait for
        return str(msgspec.json.decode(notes[0].read_bytes())["address"])

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


def shell(line: str, server: ServerProcess, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a user would type it, in another folder."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "TASKENGINE_HOME": str(server.home), "PYTHONPATH": root}
    done = subprocess.run(
        line, shell=True, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, (line, done.stderr)
    return done


def test_the_three_commands_of_the_greeting_work_as_they_stand_there(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        head, store, advice, *commands = server.log.splitlines()[:6]
        assert head.endswith(f"serves {server.address}")
        assert str(tmp_path / "engine.db") in store
        assert str(tmp_path / "token") in store
        assert "another terminal" in advice
        uploaded, executed, watched = (shell(line.strip(), server, tmp_path) for line in commands)
        assert "hello" in uploaded.stdout
        assert re.search(r"[0-9a-f]{8}-", executed.stdout)
        assert "Success" in watched.stderr
        assert watched.stdout == '{"greet":null}\n'
        assert server.token not in server.log


def test_beside_another_server_the_commands_name_the_one_they_mean(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {"TASKENGINE_HOME": str(home)}
    with ServerProcess(tmp_path / "a", environment=environment, wait=False) as first:
        first.home = home
        first.until_ready()
        with ServerProcess(tmp_path / "b b", environment=environment, wait=False) as second:
            second.home = home
            second.until_ready()
            assert "--server" not in first.log
            commands = second.log.splitlines()[3:6]
            assert all(f"--server {second.address}" in line for line in commands)
            for line in commands:
                shell(line.strip(), second, tmp_path)
            with client(first) as one, client(second) as two:
                counts = [len(each.get("/api/v1/workflows").json()["data"]) for each in (one, two)]
            assert counts == [0, 1]


def test_a_later_start_says_little_and_keeps_the_token(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        token = server.token
        assert server.stop() == 0
    with ServerProcess(tmp_path) as again:
        assert again.token == token
        with client(again) as asker:
            assert asker.get("/version").status_code == 200
        greeting = [line for line in again.log.splitlines() if not re.match(r"\d{4}-", line)]
        assert len(greeting) == 2
        assert again.address in greeting[0]


def test_server_start_is_serve(tmp_path: Path) -> None:
    with Started(tmp_path, "--port", "0", name="server start") as address:
        assert httpx.get(f"{address}/livez", trust_env=False).status_code == 200


# -- how it is started -------------------------------------------------------------------------------------------


def test_read_only_answers_and_changes_nothing(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, settings={"SERVER__READ_ONLY": "true"}) as server, client(server) as asker:
        assert asker.get("/api/v1/workflows").status_code == 200
        yaml = {"Content-Type": "application/yaml"}
        assert asker.post("/api/v1/workflows", content=b"id: w\n", headers=yaml).status_code == 403
        assert asker.get("/api/v1/workflows").json()["data"] == []


def test_jobs_of_an_app_run_on_the_fast_loop(tmp_path: Path, app: Path) -> None:
    with ServerProcess(tmp_path, apps=(app,)) as server, client(server) as asker:
        upload(asker, "id: w\ntasks: [{name: 循环, job: loop}]\n")
        reply = asker.post("/api/v1/workflows/w/execute?wait=30s").json()["data"]
        tasks = asker.get(f"/api/v1/instances/{reply['instance_id']}/tasks").json()["data"]
        task = tasks["items"][0] if isinstance(tasks, dict) else tasks[0]
    try:
        import uvloop
    except ImportError:
        assert task["result"].startswith("asyncio")
    else:
        assert task["result"] == uvloop.Loop.__module__


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate")
    return cert, key


def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    settings = {"SERVER__TLS_CERT": str(cert), "SERVER__TLS_KEY": str(key)}
    with ServerProcess(tmp_path / "s", settings=settings, wait=False) as server:
        address = server.until_known()
        assert address.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=trusting, trust_env=False, headers=server.headers) as asker:
            assert asker.get(f"{address}/version").status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http{address.removeprefix('https')}/livez", trust_env=False)
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
            httpx.get(f"{address}/livez", trust_env=False)
        old = ssl.create_default_context(cafile=str(cert))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert httpx.get(f"{address}/livez", verify=old, trust_env=False).status_code == 200


# -- ready -------------------------------------------------------------------------------------------------------


def test_it_is_alive_at_once_and_ready_when_recovery_has_ended(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    app = tmp_path / "slow.py"
    app.write_text(SLOW_RECOVERY.format(gate=str(gate)))
    with ServerProcess(tmp_path, apps=(app,), wait=False) as server:
        server.until_known()
        with client(server) as asker:
            assert asker.get("/livez").status_code == 200
            assert asker.get("/health").json()["data"]["status"] == "starting"
            answer = asker.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "Retry-After" in answer.headers
            gate.touch()
            server.until_ready()
            assert asker.get("/health").json()["data"]["status"] == "ok"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE_S)
        yield sock, str(tmp_path / "notify")


def test_a_service_manager_hears_of_ready_life_and_end(tmp_path: Path, manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    heard: list[str] = []

    def hear_until(wanted: str) -> None:
        while not any(wanted in each for each in heard):
            heard.append(sock.recv(4096).decode())

    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"}
    with ServerProcess(tmp_path, environment=environment, wait=False) as server:
        hear_until("READY=1")
        assert httpx.get(f"{server.until_known()}/readyz", trust_env=False).status_code == 200
        heard.clear()
        for _ in range(3):
            hear_until("WATCHDOG=1")
            heard.clear()
        server.signal()
        hear_until("STOPPING=1")
        assert server.wait() == 0


# -- after kill -9 -----------------------------------------------------------------------------------------------


def test_after_kill_nine_the_next_start_goes_on_and_nobody_believes_the_old_note(tmp_path: Path, app: Path) -> None:
    gate = tmp_path / "gate"
    with ServerProcess(tmp_path, apps=(app,)) as server:
        with client(server) as asker:
            upload(asker, f"id: 流程\ntasks: [{{name: a, job: hold, params: {{gate: '{gate}'}}}}]\n")
            instance = asker.post("/api/v1/workflows/流程/execute").json()["data"]["instance_id"]
            _until_running(asker, instance)
        server.signal(signal.SIGKILL)
        server.wait()
        (stale,) = (server.home / "servers").iterdir()
    with ServerProcess(tmp_path, apps=(app,)) as again:
        listed = shell(f"{_program()} instance list -o id", again, tmp_path).stdout.split()
        assert listed == [instance]
        assert not stale.exists()
        gate.touch()
        with client(again) as asker:
            body = asker.get(f"/api/v1/instances/{instance}?wait=30s").json()["data"]
        assert body["status"] == "Success"


def _program() -> str:
    return f"{sys.executable} -m taskengine"


def _until_running(asker: httpx.Client, instance: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while asker.get(f"/api/v1/instances/{instance}").json()["data"]["progress"]["running"] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # another process has no event to wait for
