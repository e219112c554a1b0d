"""The examples that README.md shows are the files of `examples/`, character for character."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOWN = {"examples/hello.py", "examples/hello.yaml"}

FENCED = re.compile(r"^(?P<fence>`{3,}|~{3,})[^\n]*\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"# (?P<path>examples/[\w./-]+)(?P<rest>.*)")


def marked_blocks(markdown: str) -> Iterator[tuple[str, str]]:
    """Path and text of every fenced block whose first line is `# examples/...`."""
    for block in FENCED.finditer(markdown):
        mark = MARK.fullmatch(block["body"].partition("\n")[0].rstrip())
        if mark and not mark["rest"]:
            yield mark["path"], block["body"]


def test_blocks_of_the_readme_are_the_files() -> None:
    blocks = list(marked_blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {path for path, _ in blocks} >= SHOWN
    for path, text in blocks:
        assert text == (ROOT / path).read_text(encoding="utf-8"), path


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_shown_file_is_short_and_names_itself(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# {name}"
    assert len([line for line in lines[1:] if line.strip()]) <= 14


def test_only_marked_blocks_are_compared() -> None:
    markdown = "```yaml\n# examples/a.yaml\nid: a\n```\n\n```\n$ ls\n```\n\n~~~\n# examples/b b\n~~~\n"
    assert list(marked_blocks(markdown)) == [("examples/a.yaml", "# examples/a.yaml\nid: a\n")]
