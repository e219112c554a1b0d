"""Every command line that a page, a help text or a message shows can be typed: its commands and options are there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from taskengine.cli.root import COMMANDS
from taskengine.cli.tree import ROOT

REPOSITORY: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
SOURCES: Final = sorted(REPOSITORY.glob("taskengine/**/*.py"))

FENCE: Final = re.compile(r"^ *```(\w*)[^\n`]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
INLINE: Final = re.compile(r"(`+)(.+?)\1", re.DOTALL)
CALL: Final = re.compile(r"(?:^|(?<=[\s(/`]))taskengine +((?:[a-z]|-).*)")
GROUPS: Final = frozenset({"workflow", "instance", "function", "node", "token", "config", "server", "db"})
END_OF_COMMAND: Final = frozenset({"#", "|", ">", ">>", "<", "&&", "||", ";", "&"})
TABLE: Final = re.compile(r"^\| (?:`taskengine (\w+) …`|command|others) \|.*\n\|[-|]+\n((?:\|.*\n)+)", re.MULTILINE)


def commands_of(page: str) -> Iterator[str]:
    """What stands behind `taskengine` in code of a page, and in the tables of its groups."""
    for language, block in FENCE.findall(page):
        if language != "python":
            yield from calls(block.replace("\\\n", " "))
    prose = FENCE.sub("", page)
    for group, rows in TABLE.findall(prose):
        yield from verbs_of(group, rows)
    for _, code in INLINE.findall(prose):
        yield from calls(" ".join(code.split()))


def calls(text: str) -> Iterator[str]:
    for line in text.splitlines():
        # One line may have several: behind a pipe, within `$(…)`.
        for part in re.split(r"(?=\btaskengine )", line):
            yield from CALL.findall(part)


def verbs_of(group: str, rows: str) -> Iterator[str]:
    """The code of the first column. An option alone belongs to what stood before it, a verb to the group before it."""
    for row in rows.splitlines():
        within, before = group, ""
        for _, code in INLINE.findall(row.replace("\\|", "¦").split("|")[1]):
            if code.startswith("-"):
                words = f"{before} {code}"
            else:
                first = code.split()[0]
                words = code if not group and first in COMMANDS else f"{within} {code}"
                within = group or (first if first in COMMANDS else within)
                before = " ".join(words.split()[: 2 if words.split()[0] in GROUPS else 1])
            yield re.sub(r"¦\S+", "", words).replace("¦", " ")


def fault_of(words: str) -> str:
    """Why that cannot be typed; empty when it can. Placeholders stand for any value."""
    command: click.Command = ROOT
    context = click.Context(ROOT, info_name="taskengine")
    rest = split(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            return f"{context.command_path} has no command {rest[0]}"
        context = click.Context(found, parent=context, info_name=rest[0])
        command, rest = found, rest[1:]
    if {"--help", "-h", "--version"} & set(rest):
        return ""
    try:
        _, leftover, _ = command.make_parser(context).parse_args(rest)
    except click.UsageError as error:
        return "" if "requires an argument" in error.format_message() else error.format_message()
    return f"too many words: {leftover}" if leftover else ""


def split(words: str) -> list[str]:
    found = []
    words = re.sub(r"\$\{[^}]*\}", "x", words)  # of a shell or of ours: a part of a word
    for word in shlex.split(re.sub(r"[\[\]…]|\$\(|`.*|\{[^}]*\}", " ", words.replace("'", "")), posix=False):
        if word in END_OF_COMMAND:
            break
        found.append(word.rstrip(").,;:"))
        if word[-1] in ").;":
            break
    return [word for word in found if word]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_can_be_typed(page: Path) -> None:
    faults = {words: fault for words in commands_of(page.read_text()) if (fault := fault_of(words))}
    assert not faults


def test_the_pages_show_commands() -> None:
    """What finds nothing checks nothing."""
    shown = {" ".join(split(words)[:2]) for page in PAGES for words in commands_of(page.read_text())}
    assert {"serve", "workflow upload", "instance retry", "token create", "workflow delete", "node list"} <= shown


def test_what_the_help_shows_can_be_typed() -> None:
    shown = [call for command in every_command(ROOT) for call in calls(command.help or "")]
    assert len(shown) > 25
    assert not {words: fault for words in shown if (fault := fault_of(words))}


def test_what_messages_advise_can_be_typed() -> None:
    advice = re.compile(r"`taskengine ([a-z][^`\n\"]*)`")
    shown = {words for source in SOURCES for words in advice.findall(source.read_text())}
    assert len(shown) > 15
    assert not {words: fault for words in shown if (fault := fault_of(words))}


def every_command(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from every_command(command)


@pytest.mark.parametrize(
    "page",
    [
        "It is `taskengine token create --name ci` that\nmakes one.",
        "```\n$ ID=$(taskengine workflow exeucte x)\n```",
        "```sh\ntaskengine instance list | xargs taskengine instance status --everything\n```",
        "| `taskengine node …` | |\n|---|---|\n| `list` · `shut ID` | one \\| two |\n",
        "| `taskengine token …` | |\n|---|---|\n| `create NAME` · `--level read` | |\n",
        "`taskengine version now`",
    ],
)
def test_what_cannot_be_typed_is_found(page: str) -> None:
    assert [words for words in commands_of(page) if fault_of(words)]
