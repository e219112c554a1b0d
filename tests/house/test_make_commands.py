"""What README.md tells people to type exists."""

import re
import subprocess
from pathlib import Path


def _told(text: str) -> set[str]:
    """Targets in the code of a Markdown text; prose may say "make sure"."""
    code = re.findall(r"^```.*?^```|`[^`\n]+`", text, re.MULTILINE | re.DOTALL)
    spans = "\n".join(code).replace("`", "\n")
    commands = re.findall(r"(?:^|[;&|(]|\$ )[ \t]*make((?:[ \t]+[\w=./-]+)*)", spans, re.MULTILINE)
    words = [word for command in commands for word in command.split()]
    return {word for word in words if "=" not in word and not word.startswith("-")}


def _targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))


def test_commands_of_the_readme_are_targets(project: Path) -> None:
    told = _told((project / "README.md").read_text(encoding="utf-8"))
    assert told - _targets((project / "Makefile").read_text()) == set()


def test_ci_runs_the_test_command(project: Path) -> None:
    last = [line for line in (project / ".ci" / "run").read_text().splitlines() if not line.startswith("#")][-2:]
    assert last == ["make test", "exec make test-servers ONLY=tests/conformance/store"]
    assert (project / ".ci" / "run").stat().st_mode & 0o111


def test_help_lists_every_target_people_may_type(project: Path) -> None:
    said = subprocess.run(["make", "-s", "help"], cwd=project, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^  make ([a-z-]+)", said, re.MULTILINE))
    inner = {name for name in _targets((project / "Makefile").read_text()) if name.startswith("check-")}
    assert listed == _targets((project / "Makefile").read_text()) - inner
    assert {"setup", "demo", "test", "test-servers", "bench", "torture", "lint", "format", "clean", "help"} == listed


def test_commands_are_found_in_code_only() -> None:
    text = "make sure\n`make one` and `make -k PYTHON=python3.12 two`\n```sh\n$ make three && make four\n```\n"
    assert _told(text) == {"one", "two", "three", "four"}


def test_targets_are_told_from_variables() -> None:
    assert _targets("SHELL := /bin/sh\nvalue := 1\n.PHONY: x\nsetup: $(READY) ## text\n\tcommand: no\n") == {"setup"}
