"""The command as its users have it: a process with two streams, or with a terminal."""

import contextlib
import errno
import io
import itertools
import json
import logging
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from taskengine.cli import root

SERVER_CONFIG = """
server: {port: 0}
functions: {builtin: [http_request, sleep, transform, log, noop, fail, shell_command, wait_for]}
"""

_numbers = itertools.count()

COMMAND = (sys.executable, "-m", "taskengine")
PATIENCE_S = 60.0

JOBS = """
import asyncio, os, time
from pathlib import Path
from taskengine import NonRetryable, TaskContext, job

@job("hold")
async def hold(ctx: TaskContext, gate: str) -> str:
    "Runs until the file `gate` is there; says in `gate.N` that attempt N runs."
    Path(f"{gate}.{ctx.attempt}").touch()
    while not os.path.exists(gate):
        await asyncio.sleep(0.02)
    return "passed"

@job("chatty")
async def chatty(ctx: TaskContext) -> int:
    print("printed by a job")
    os.write(1, b"written by a job\\n")
    ctx.log.info("logged %s", "\\x1b]0;evil\\x07")
    return 7

@job("breaks_at_first")
async def breaks_at_first(ctx: TaskContext, flag: str) -> str:
    if not os.path.exists(flag):
        raise NonRetryable("no \\x1b[2Jflag")
    return "whole"

@job("ticking")
async def ticking(ctx: TaskContext, gate: str) -> int:
    "Logs until the file `gate` is there."
    ticks = 0
    while not os.path.exists(gate):
        ticks += 1
        ctx.log.info("tick %d", ticks)
        await asyncio.sleep(0.05)
    return ticks

@job("stubborn")
async def stubborn(gate: str) -> None:
    "Blocks the whole loop."
    Path(gate).touch()
    time.sleep(60)

@job("short")
async def short(n: int) -> int:
    await asyncio.sleep(0.01)
    return n
"""


@pytest.fixture(autouse=True)
def own_logger() -> Iterator[None]:
    """A command that runs in this process sets up the program's log; the next test finds it as it was."""
    logger = logging.getLogger("taskengine")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


class Ran(subprocess.CompletedProcess[str]):
    """A command that has ended."""

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def data(self) -> Any:
        assert self.stdout, f"exit code {self.returncode}: {self.stderr}"
        return json.loads(self.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder of the command, with `jobs.py` in it."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture
def workflow(folder: Path) -> Callable[..., str]:
    """Write a workflow file and give its name; tasks as flow mappings."""

    def write(*tasks: str, head: str = "", name: str = "flow.yaml", id: str = "flow") -> str:
        lines = [f"id: {id}", *([head] if head else []), "tasks:", *(f"  - {{{task}}}" for task in tasks)]
        (folder / name).write_text("\n".join(lines if tasks else lines[:-1]) + "\n")
        return name

    return write


@pytest.fixture
def command(folder: Path) -> Callable[..., Ran]:
    """Run the command to its end, both streams into pipes."""

    def run(*arguments: str, env: Mapping[str, str] = {}, stdin: str | None = None) -> Ran:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=folder,
            env={**os.environ, **env},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Ran(done.args, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start the command and leave it running; what is still there at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def main(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """The same in this process: quicker, for commands that only ask or tell."""
    monkeypatch.chdir(folder)
    # A job file of this command is not that of the command before, although both are the module `jobs`.
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "jobs", raising=False)

    def run(*arguments: str, stdin: str = "") -> Ran:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            code = root.main(arguments)
        sys.modules.pop("jobs", None)
        return Ran(arguments, code, *(_written(stream) for stream in (out, err)))

    return run


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


class Served:
    """A server that runs, with a home of its own, so that a test finds it only where it says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs.py").write_text(JOBS)
        (folder / "server.yaml").write_text(SERVER_CONFIG)
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--config", "server.yaml", "--app", "jobs.py"],
                cwd=folder,
                env={**os.environ, "TASKENGINE_HOME": str(folder / "home")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        note = json.loads(self._wait_for_note().read_bytes())
        self.address, self.token_file, self.store = str(note["address"]), str(note["token_file"]), str(note["store"])

    @property
    def flags(self) -> tuple[str, ...]:
        """What leads a command to it."""
        return ("--server", self.address, "--token-file", self.token_file)

    @property
    def db(self) -> tuple[str, str]:
        """What leads a command to its database, beside it."""
        return ("--db", self.store)

    def note_in(self, home: Path) -> None:
        """Let commands of that home find it by themselves."""
        (home / "servers").mkdir(exist_ok=True)
        shutil.copy(self._wait_for_note(), home / "servers")

    def stop(self) -> None:
        """At once: tests leave instances behind that would hold up an orderly end."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def _wait_for_note(self) -> Path:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := list((self.folder / "home" / "servers").glob("*.json"))):
            alive = self.process.poll() is None and time.monotonic() < deadline
            assert alive, (self.folder / "log").read_text(errors="replace")
            time.sleep(0.02)  # another process has no event to wait for
        return found[0]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests: what they upload must have ids of their own."""
    server = Served(tmp_path_factory.mktemp("served"))
    yield server
    server.stop()


@pytest.fixture
def upload(main: Callable[..., Ran], served: Served) -> Callable[..., str]:
    """Store a workflow on the server under an id that no other test has; tasks as flow mappings."""

    def store(*tasks: str, head: str = "") -> str:
        workflow_id = f"w{next(_numbers)}"
        lines = [f"id: {workflow_id}", *([head] if head else []), "tasks:", *(f"  - {{{task}}}" for task in tasks)]
        done = main("workflow", "upload", "-", *served.flags, stdin="\n".join(lines))
        assert done.returncode == 0, done.stderr
        return workflow_id

    return store


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Wait for something that another process does; gives what the question gave."""

    def wait(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (answer := question()):
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)  # another process has no event to wait for
        return answer

    return wait


class Terminal:
    """The command on a pseudo-terminal. `screen` is everything that was written so far."""

    def __init__(self, arguments: Sequence[str], folder: Path, rows: int, columns: int, env: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", **env},
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.screen = ""
        self._bytes = b""

    @property
    def text(self) -> str:
        """Without the sequences that draw."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.screen).replace("\r", "")

    def read_until(self, wanted: str) -> str:
        """Read on until the text has appeared."""
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in self.text:
            assert time.monotonic() < deadline, f"no {wanted!r} in:\n{self.text}"
            if not self._read(0.2):
                assert wanted in self.text, f"it ended without {wanted!r}:\n{self.text}"
        return self.text

    def press_ctrl_c(self) -> None:
        self.type(b"\x03")

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(0.2):
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    def _read(self, patience_s: float) -> bool:
        """False at the end of the output."""
        if not select.select([self._master], [], [], patience_s)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: nobody has the other side any more
                raise
            data = b""
        self._bytes += data
        self.screen = self._bytes.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal(folder: Path) -> Iterator[Callable[..., Terminal]]:
    """Start the command on a pseudo-terminal of the given size."""
    opened: list[Terminal] = []

    def begin(*arguments: str, rows: int = 24, columns: int = 100, env: Mapping[str, str] = {}) -> Terminal:
        opened.append(Terminal(arguments, folder, rows, columns, env))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()
