"""A failed fsync is fatal, in a commit and in a checkpoint. A small preloaded library makes it fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHIM = """
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>

static int broken(void) { return access(getenv("BREAK_FSYNC"), F_OK) == 0; }

int fsync(int fd) { if (broken()) { errno = EIO; return -1; } return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { if (broken()) { errno = EIO; return -1; } return syscall(SYS_fdatasync, fd); }
"""

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from taskengine.ambient import Ambient
from taskengine.errors import StoreError, StoreUnavailable
from taskengine.probe import Probe
from taskengine.store import sqlite
from taskengine.store.batch import Batch
from taskengine.store.sqlite import SqliteStore

class Breaks(Probe):
    def reach(self, point):
        if self.breaks:
            Path(os.environ["BREAK_FSYNC"]).touch()
    breaks = False

async def main():
    probe = Breaks()
    store = SqliteStore(sys.argv[1], Ambient(probe=probe))
    await store.open()
    batch = lambda number: Batch(epoch=store.epoch, lane=0, number=number, acknowledged=number - 1)
    await store.commit(batch(1))
    if sys.argv[2] == "checkpoint":
        sqlite.LOG_LIMIT_BYTES = 0
        store._next_checkpoint = 0
        bound = store._bound_log
        def break_first(db):
            Path(os.environ["BREAK_FSYNC"]).touch()
            bound(db)
        store._bound_log = break_first
    else:
        Breaks.breaks = True
    try:
        await store.commit(batch(2))
    except StoreUnavailable:
        print("would try again")
    except StoreError as exc:
        print("fatal", "SQLITE_IOERR_FSYNC" in str(exc))
    else:
        print("nothing noticed")
    sys.stdout.flush()
    os._exit(0)  # as the engine does: nothing is closed, the next start recovers

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        if os.environ.get("CI"):
            pytest.fail("no C compiler, and CI must have one")
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "shim.so", "shim.c"], cwd=folder, check=True)
    return folder / "shim.so"


@pytest.mark.parametrize("where", ["commit", "checkpoint"])
def test_a_failed_fsync_is_fatal(shim: Path, tmp_path: Path, where: str) -> None:
    environment = {**os.environ, "LD_PRELOAD": str(shim), "BREAK_FSYNC": str(tmp_path / "broken")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "a.db"), where],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("fatal True\n", 0), done.stderr
