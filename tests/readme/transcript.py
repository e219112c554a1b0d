"""Reads a transcript out of Markdown and plays it in one bash, as a reader would type it.

A fenced block of the language `console` holds lines that begin with `$ ` (commands; `> ` goes on with one) and, below
each, what it prints on stdout and stderr. In the expected text `…` stands for anything within a line, and a line that
is only `…` for any number of lines. An identifier (UUID) or a time stands for every other one.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Step", "matches", "play", "steps_of"]

_BLOCK = re.compile(r"^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "\x01step\x01"
_ANY = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}": r"[0-9a-f-]{36}",
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?Z": r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?Z",
    r"\d{2}:\d{2}:\d{2}": r"\d{2}:\d{2}:\d{2}",
    r"\b\d+\.\d+s\b": r"\d+(?:\.\d+)?m?s",
    "…": r"[^\n]*",
}
_ANY_OF = re.compile("|".join(f"(?P<p{number}>{pattern})" for number, pattern in enumerate(_ANY)))
_STANDS_FOR = list(_ANY.values())


class Step(NamedTuple):
    """One command and what it shall print."""

    command: str
    expected: str


def steps_of(markdown: str) -> Iterator[Step]:
    """Every command of every `console` block, in order."""
    for block in _BLOCK.finditer(markdown):
        command: list[str] = []
        expected: list[str] = []
        for line in block["body"].splitlines():
            if line.startswith("$ "):
                if command:
                    yield Step("\n".join(command), "\n".join(expected))
                command, expected = [line[2:]], []
            elif line.startswith("> ") and not expected:
                command.append(line[2:])
            else:
                expected.append(line)
        if command:
            yield Step("\n".join(command), "\n".join(expected))


def matches(expected: str, printed: str) -> bool:
    """Whether the printed text is what the transcript shows; empty lines at the end do not count."""
    pattern = []
    for line in expected.rstrip("\n").splitlines():
        pattern.append(r"(?:[^\n]*\n)*?" if line.strip() == "…" else _line_pattern(line) + r"[ ]*\n")
    return (
        re.fullmatch("".join(pattern), "".join(line + "\n" for line in printed.rstrip("\n").splitlines())) is not None
    )


def _line_pattern(line: str) -> str:
    parts, at = [], 0
    for found in _ANY_OF.finditer(line):
        parts.append(re.escape(line[at : found.start()]))
        assert found.lastgroup is not None
        parts.append(_STANDS_FOR[int(found.lastgroup[1:])])
        at = found.end()
    parts.append(re.escape(line[at:].rstrip()))
    # Columns grow with their content: how many spaces stand between two of them is not the point.
    return re.sub(r"(?:\\ ){2,}", r" {2,}", "".join(parts))


def play(steps: list[Step], folder: Path, environ: Mapping[str, str], timeout_s: float) -> list[str]:
    """What each command printed, in order; one shell plays them all, so variables live on."""
    script = "exec 2>&1\n" + "".join(f"{step.command}\nprintf '{_MARK}'\n" for step in steps)
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=folder,
        env=dict(environ),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        timeout=timeout_s,
        check=False,
    )
    return done.stdout.split(_MARK)[: len(steps)]
