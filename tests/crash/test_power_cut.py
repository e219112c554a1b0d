"""A power cut: what was not synced is gone. kill -9 alone keeps the system's page cache, so it cannot show this.

A small preloaded library copies the database's files whenever they have been synced; after the kill the copies take
the files' places, which is what the disk would hold.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHIM = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

static void keep(int fd) {
    char link[64], path[4000], part[4010], copy[4010], block[65536];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    const char *dot = strrchr(path, '.');
    if (!dot || (strcmp(dot, ".db") && strcmp(dot, ".db-wal"))) return;
    snprintf(part, sizeof part, "%s.part", path);
    snprintf(copy, sizeof copy, "%s.synced", path);
    int in = open(path, O_RDONLY), out = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t got;
    while ((got = read(in, block, sizeof block)) > 0 && write(out, block, got) == got) {}
    close(in);
    close(out);
    rename(part, copy);
}

int fsync(int fd) { int r = syscall(SYS_fsync, fd); if (!r) keep(fd); return r; }
int fdatasync(int fd) { int r = syscall(SYS_fdatasync, fd); if (!r) keep(fd); return r; }
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
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", "shim.so", "shim.c"], cwd=folder, check=True)
    return folder / "shim.so"


def cut_power(lives: Any, shim: Path, *options: str) -> None:
    """Kill the process in the middle of its work, then take from its files whatever was never synced."""
    lives.extra = {"LD_PRELOAD": str(shim)}
    assert lives.live("--kill", "commit.acknowledged:30", *options) == -signal.SIGKILL, lives.said
    lives.extra = {}
    for name in ("engine.db", "engine.db-wal", "engine.db-shm"):
        path = lives.folder / name
        path.unlink(missing_ok=True)
        synced = lives.folder / f"{name}.synced"
        if synced.exists():
            synced.rename(path)


def test_a_power_cut_loses_nothing_that_was_acknowledged(make_lives: Callable[..., Any], shim: Path) -> None:
    lives = make_lives(seed=5)
    cut_power(lives, shim)
    lives.finish()
    assert lives.faults() == []


def test_commits_that_are_not_synced_are_found_out(make_lives: Callable[..., Any], shim: Path) -> None:
    lives = make_lives(seed=5)
    cut_power(lives, shim, "--sabotage", "no_sync")
    lives.live("--patience", "5")
    assert any("lost" in fault or "not stored" in fault for fault in lives.faults())
