"""A database server of the tests' own, from installed binaries: it may be stopped, killed and started again."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from databases.asking import ask

__all__ = ["PrivateServer", "can_be_private"]

PATIENCE_S = 60.0
_PLACES = ("/usr/sbin", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/bin", "/usr/local/bin")
_PROGRAMS = {"postgresql": ("initdb", "postgres"), "mysql": ("mariadb-install-db", "mariadbd")}
_USERS = {"postgresql": ("postgres", "nobody"), "mysql": ("mysql", "nobody")}


def _program(name: str) -> str:
    """Its path; empty: it is not installed."""
    found = shutil.which(name)
    if found:
        return found
    candidates = [path for place in _PLACES for path in Path("/").glob(f"{place.lstrip('/')}/{name}")]
    return str(max(candidates)) if candidates else ""


def can_be_private(kind: str) -> bool:
    return all(_program(name) for name in _PROGRAMS[kind])


class PrivateServer:
    """On a free port of loopback, in a folder that goes with it. Made at once, started by `start` or by `with`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix=f"taskengine-{kind}-"))
        self._user = _unprivileged(kind)
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._make()

    @property
    def dsn(self) -> str:
        """Of its first database, for its owner, who needs no password."""
        if self.kind == "postgresql":
            return f"postgresql://owner@127.0.0.1:{self.port}/postgres"
        return f"mysql://root@127.0.0.1:{self.port}/mysql"

    def _make(self) -> None:
        data, maker = str(self.folder / "data"), _program(_PROGRAMS[self.kind][0])
        if self.kind == "postgresql":
            self._run([maker, "-D", data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
        else:
            self._run([maker, f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"])

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **self._as())
        assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"

    def _as(self) -> dict[str, int]:
        """Neither server runs as root."""
        return {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid}

    def start(self) -> None:
        """Until it answers. Raises AssertionError when it does not."""
        data, server = self.folder / "data", _program(_PROGRAMS[self.kind][1])
        if self.kind == "postgresql":
            command = [server, "-D", str(data), "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1"]
        else:
            command = [server, "--no-defaults", f"--datadir={data}", f"--port={self.port}", "--bind-address=127.0.0.1"]
            command += [f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, **self._as()
            )
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                ask(self.dsn, "SELECT 1", timeout_s=2)
                return
            except Exception:
                code = self._process.poll()
                if code is not None or time.monotonic() > deadline_s:
                    log = (self.folder / "log").read_text()[-3000:]
                    raise AssertionError(f"{server} does not answer (exit code {code}):\n{log}") from None
            time.sleep(0.05)  # another process has no event to wait for

    def stop(self, *, kill: bool = False) -> None:
        """An orderly end that waits for no client, or kill -9. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        fast = signal.SIGINT if self.kind == "postgresql" else signal.SIGTERM
        process.send_signal(signal.SIGKILL if kill else fast)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)

    def restart(self, *, kill: bool = False) -> None:
        self.stop(kill=kill)
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()

    def remove(self) -> None:
        """The process and the folder."""
        self.stop(kill=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _unprivileged(kind: str) -> pwd.struct_passwd | None:
    """Who runs the server instead of root; None: we are not root."""
    if os.getuid() != 0:
        return None
    for name in _USERS[kind]:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError(f"none of the users {_USERS[kind]} is there to run the server")
