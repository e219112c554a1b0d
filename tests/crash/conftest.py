"""Lives of an engine in processes of their own, in a folder that outlives them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from crash.checker import faults
from crash.ledger import read_effects

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.py")
LIMIT_S = 120


class Lives:
    """One database and its ledgers; each `live` is one process on it."""

    def __init__(self, folder: Path, seed: int, instances: int, dsn: str | None) -> None:
        self.folder, self.seed, self.instances = folder, seed, instances
        self.dsn = dsn or str(folder / "engine.db")
        self.kills = 0
        self.recovery_s: list[float] = []
        self.said = ""
        self.extra: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "TASKENGINE_TEST_EFFECTS": str(self.folder / "effects.log"),
            "TASKENGINE_TEST_DATABASE": self.dsn,
            **self.extra,
        }

    def command(self, *options: str) -> Sequence[str]:
        line = [sys.executable, "-W", "error", str(DRIVER), str(self.folder), "--seed", str(self.seed)]
        return [*line, "--instances", str(self.instances), *options]

    def live(self, *options: str) -> int:
        """Run the driver to its end, whatever that is; gives the exit code, negative: the signal."""
        done = subprocess.run(
            self.command(*options), env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        return self._ended(done.returncode, done.stdout, done.stderr)

    def killed_after(self, seconds: float, *options: str) -> int:
        """Run it and kill it at that moment, if it has not ended by then."""
        began_s, child = time.monotonic(), self.begin(*options)
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
        assert time.monotonic() - began_s < LIMIT_S
        return self._ended(child.returncode, out, err)

    def begin(self, *options: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*options), env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def _ended(self, code: int, out: str, err: str) -> int:
        self.said = err
        self.kills += code == -signal.SIGKILL
        if code == 0:
            self.recovery_s += json.loads(out.splitlines()[-1])["recovered_s"]
        return code

    def finish(self, *options: str) -> None:
        """A life that nobody disturbs must bring everything to its end."""
        code = self.live(*options)
        assert code == 0, f"exit {code}: {self.said}"

    def faults(self) -> list[str]:
        return faults(self.folder, self.dsn, seed=self.seed, instances=self.instances, kills=self.kills)

    def effects(self) -> int:
        return len(read_effects(self.folder / "effects.log"))


@pytest.fixture
def make_lives(tmp_path: Path) -> Callable[..., Lives]:
    def make(seed: int = 0, instances: int = 20, dsn: str | None = None) -> Lives:
        folder = tmp_path / f"{seed}-{instances}"
        folder.mkdir()
        return Lives(folder, seed, instances, dsn)

    return make
