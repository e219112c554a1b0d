"""`make torture`: run the long tests, then write what they found to docs/torture.md."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from torture.figures import VARIABLE, read  # noqa: E402  # found by the line before

PAGE = ROOT / "docs" / "torture.md"
COMMAND = "make torture"

_UNITS = {"s": "s", "ms": "ms", "mb": "MB"}
_TOLD_ABOVE = {"kills", "point", "recovery_s"}


def main(arguments: Sequence[str]) -> int:
    """The exit code of pytest; `arguments` go to it, a part of the tests then writes no page."""
    with tempfile.TemporaryDirectory() as folder:
        figures, junit = Path(folder, "figures.jsonl"), Path(folder, "junit.xml")
        environment = {**os.environ, "TASKENGINE_TORTURE": "1", VARIABLE: str(figures)}
        line = [sys.executable, "-m", "pytest", "-m", "torture", "-q", f"--junitxml={junit}", *arguments]
        code = subprocess.run(line, cwd=ROOT, env=environment, check=False).returncode
        page = written(read(figures), counted(junit), code)
    if arguments:
        print(page)
    else:
        PAGE.write_text(page, encoding="utf-8")
        print(f"written: {PAGE.relative_to(ROOT)}")
    return code


def counted(junit: Path) -> dict[str, float]:
    """Tests, failures, errors, skipped and seconds of the whole run."""
    if not junit.exists():
        return {}
    suites = ElementTree.parse(junit).getroot().iter("testsuite")
    totals: dict[str, float] = {}
    for suite in suites:
        for name in ("tests", "failures", "errors", "skipped", "time"):
            totals[name] = totals.get(name, 0.0) + float(suite.get(name, "0"))
    return totals


def written(figures: Sequence[dict[str, Any]], totals: dict[str, float], code: int) -> str:
    lines = [
        "# The long tests",
        "",
        f"Written by `{COMMAND}` (tests/torture/report.py), which runs what `make test` has no time for.",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- machine: {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"CPython {platform.python_version()}",
        f"- result: {'passed' if code == 0 else f'FAILED (exit code {code})'}",
        f"- tests: {_count(totals, 'tests')}, failed: {_count(totals, 'failures') + _count(totals, 'errors')}, "
        f"skipped: {_count(totals, 'skipped')}, seconds: {totals.get('time', 0.0):.0f}",
        "",
        *_kills(figures),
        *_points(figures),
        *_recovery(figures),
        *_others(figures),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _count(totals: dict[str, float], name: str) -> int:
    return int(totals.get(name, 0))


def _kills(figures: Sequence[dict[str, Any]]) -> Iterable[str]:
    """How often a process was killed, and where."""
    kinds = sorted({figure["name"] for figure in figures if "kills" in figure})
    if not kinds:
        return
    yield from ("## Kills", "", "| how | runs | seeds | kills | instances |", "|---|---|---|---|---|")
    for kind in kinds:
        mine = [figure for figure in figures if figure["name"] == kind]
        seeds = sorted({figure["seed"] for figure in mine})
        sums = [sum(figure[key] for figure in mine) for key in ("kills", "instances")]
        yield f"| {kind} | {len(mine)} | {_span(seeds)} | {sums[0]} | {sums[1]} |"
    yield from (
        "",
        "After each of these runs the ledger of the client and the ledger of the effects agreed with the store: "
        "nothing acknowledged was lost, nothing that had succeeded ran again, nothing started before what it needs.",
        "",
    )


def _span(seeds: Sequence[int]) -> str:
    """1, 2, 3, 7 as 1..3, 7."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _points(figures: Sequence[dict[str, Any]]) -> Iterable[str]:
    mine = [figure for figure in figures if "point" in figure]
    if not mine:
        return
    yield from ("Points, and the how-manieth time they were reached:", "")
    for point in dict.fromkeys(figure["point"] for figure in mine):
        times = sorted(figure["times"] for figure in mine if figure["point"] == point)
        yield f"- `{point}`: {', '.join(map(str, times))}"
    yield ""


def _recovery(figures: Sequence[dict[str, Any]]) -> Iterable[str]:
    """From the start of the next process to each instance going on, and the same for the command line."""
    rows = []
    for kind in sorted({figure["name"] for figure in figures if figure.get("recovery_s")}):
        spans = sorted(span for figure in figures if figure["name"] == kind for span in figure.get("recovery_s", ()))
        at = [spans[min(len(spans) - 1, int(len(spans) * share))] for share in (0.9, 0.99)]
        rows.append(f"| {kind} | {len(spans)} | {median(spans):.2f} | {at[0]:.2f} | {at[1]:.2f} | {spans[-1]:.2f} |")
    if rows:
        yield from (
            "## Recovery",
            "",
            "Seconds from the start of the next process until an unfinished instance goes on; for the command line "
            "until the first body of the next process.",
            "",
            "| how | recoveries | median | 90 % | 99 % | longest |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        )


def _others(figures: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Every other figure under its own name: one as a list of what it says, several as a table with a row for each."""
    others = [figure for figure in figures if not figure.keys() & _TOLD_ABOVE]
    for name in sorted({figure["name"] for figure in others}):
        mine = [figure for figure in others if figure["name"] == name]
        keys = [key for key in dict.fromkeys(key for figure in mine for key in figure) if key != "name"]
        yield from (f"## {name[:1].upper()}{name[1:]}", "")
        if len(mine) == 1:
            yield from (f"- {_title(key)}: {_cell(mine[0][key])}" for key in keys)
        else:
            yield _row(map(_title, keys))
            yield "|" + "---|" * len(keys)
            yield from (_row(_cell(figure.get(key)) for key in keys) for figure in mine)
        yield ""


def _title(key: str) -> str:
    """`longest_exit_s` as `longest exit, s`."""
    words = key.split("_")
    unit = words.pop() if len(words) > 1 and words[-1] in _UNITS else ""
    return " ".join(words) + (f", {_UNITS[unit]}" if unit else "")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".") if abs(value) < 10 else f"{value:,.1f}".removesuffix(".0")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(each)}" for key, each in value.items())
    return " ".join(str(value).split()).replace("|", "\\|")


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
