"""The order that undoes itself, run as a reader would run it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("cars", "after", "status", "tasks"),
    [
        ("0", "{'orders': 0, 'stock': 3, 'balance': 100}", "Compensated", ["Compensated"] * 3 + ["Failed"]),
        ("1", "{'orders': 1, 'stock': 2, 'balance': 70}", "Success", ["Success"] * 4),
    ],
)
def test_an_order_is_whole_or_not_there(cars: str, after: str, status: str, tasks: list[str]) -> None:
    command = [sys.executable, "examples/shop.py", "--cars", cars]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "before {'orders': 0, 'stock': 3, 'balance': 100}"
    assert lines[1] == f"after  {after}"
    assert lines[2].startswith(status)
    assert [line.split()[1] for line in lines[3:]] == tasks
