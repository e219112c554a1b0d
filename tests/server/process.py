"""A real `taskengine serve` in a process of its own: started, watched, told to end, and gone after the test."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import msgspec

__all__ = ["PATIENCE_S", "ServerProcess"]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
_LOOK_S = 0.01


class ServerProcess:
    """One server on a free port. Its home is its folder: a second one there goes on with what the first one left.

    As a context manager it waits until the server is ready; whatever happens, the process is gone afterwards.

    folder       home, database (`engine.db`), token and log of the server
    dsn          another database; the token is in the home then
    apps         files with jobs
    settings     by the name of their environment variable without its prefix, such as `EXECUTION__GRACE`
    environment  besides
    wait         False: return as soon as the process is there, ask with `until_known` or `until_ready`
    """

    def __init__(
        self,
        folder: Path,
        *,
        dsn: str = "",
        apps: tuple[Path, ...] = (),
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        self.folder, self.home, self.database = folder, folder / "home", folder / "engine.db"
        self._wait, self._token = wait, (self.home if dsn else folder) / "token"
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "taskengine", "serve", "--port", "0", "--db", dsn or str(self.database)]
        for app in apps:
            command += ["--app", str(app)]
        self._log = folder / f"log-{len(list(folder.glob('log-*'))):03}"
        self.began_s = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(self.home, settings or {}, environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.address = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def token(self) -> str:
        """The local token, which the first start makes. For admins."""
        return self._token.read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text("utf-8", "replace")

    def __enter__(self) -> Self:
        if self._wait:
            try:
                self.until_ready()
            except BaseException:
                self.kill()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def until_known(self) -> str:
        """Until it has left its note; gives the address. It answers then, but need not be ready."""
        self._until(lambda: bool(self._notes()), "leave a note")
        self.address = str(msgspec.json.decode(self._notes()[0].read_bytes())["address"])
        return self.address

    def until_it_hears(self) -> None:
        """Until SIGTERM is asked for and would not simply end it: the earliest moment of its life that can be met."""
        status = Path(f"/proc/{self.pid}/status")
        self._until(lambda: bool(_mask(status.read_text(), "SigCgt") >> (signal.SIGTERM - 1) & 1), "hear signals")

    def until_said(self, word: str) -> None:
        """Until its log has the word."""
        self._until(lambda: word in self.log, f"say {word}")

    def until_one_is_taken(self) -> None:
        """Until no signal waits for it: the same one, sent again, does not melt into the first."""
        status = Path(f"/proc/{self.pid}/status")
        self._until(lambda: not _mask(status.read_text(), "ShdPnd"), "take its signals")

    def until_ready(self) -> float:
        """Until /readyz says yes; gives the seconds since the start of the process."""
        address = self.until_known()
        with httpx.Client(base_url=address, trust_env=False) as client:
            self._until(lambda: client.get("/readyz", timeout=PATIENCE_S).status_code == 200, "be ready")
        return time.monotonic() - self.began_s

    def signal(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; gives the moment, in monotonic seconds."""
        now_s = time.monotonic()
        self.process.send_signal(number)
        return now_s

    def wait(self, limit_s: float = PATIENCE_S) -> int:
        """The exit code. Raises AssertionError with the log when the process is still there after `limit_s`."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server has not ended within {limit_s:g} s:\n{self.log[-5000:]}") from None

    def stop(self, limit_s: float = PATIENCE_S) -> int:
        """SIGTERM, and the exit code."""
        self.signal()
        return self.wait(limit_s)

    def kill(self) -> None:
        """kill -9, unless it has ended. Its workers end with it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            code = self.process.poll()
            assert code is None, f"the server should {what} and ended with {code}:\n{self.log[-5000:]}"
            assert time.monotonic() < deadline_s, f"the server does not {what}:\n{self.log[-5000:]}"
            time.sleep(_LOOK_S)  # another process has no event to wait for

    def _notes(self) -> list[Path]:
        return list((self.home / "servers").glob(f"{self.pid}-*.json"))


def _mask(status: str, name: str) -> int:
    """A set of signals of a process, as a bit mask (proc(5))."""
    return next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith(name)), 0)


def _environment(home: Path, settings: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would steer the server; the package is found where the tests find it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKENGINE_")}
    paths = [str(ROOT), str(ROOT / "tests")]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "TASKENGINE_HOME": str(home),
        **{f"TASKENGINE_{name}": value for name, value in settings.items()},
        **more,
    }
