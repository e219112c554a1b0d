"""docs/python-client.md: its programs run, and it names what there is."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from api.apiworld import ApiWorld, background_server
from client.test_client_facades import CONTRACT

from taskengine.client import Patience
from taskengine.clock import Micros
from taskengine.config.presence import ServerNote, write_note

PAGE = (Path(__file__).parents[2] / "docs" / "python-client.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def greet(name: str) -> str:
    return f"hello {name}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ApiWorld]:
    """A server of this machine that has left its note, so that `Client()` finds it."""
    with background_server(jobs={"greet": greet}) as world:
        token_file = tmp_path / "token"
        token_file.write_text(world.secrets["admin"])
        note = ServerNote(
            address=f"http://127.0.0.1:{world.port}",
            pid=os.getpid(),
            token_file=str(token_file),
            store="memory://",
            started_us=Micros(1),
        )
        write_note(note)
        yield world


def test_every_program_of_the_page_runs_in_its_order(served: ApiWorld, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(PROGRAMS) == 6
    said = []
    for program in PROGRAMS:
        exec(compile(program, "docs/python-client.md", "exec"), {"__name__": "__main__"})
        said.append(capsys.readouterr().out)
    assert said[0] == "Success {'hello': 'hello 上海'}\n"
    assert said[1].count("\n") >= 2
    assert "hello Success" in said[2]
    assert "{'hello': 'hello 世界'}" in said[2]
    assert said[3].startswith("connected")
    assert "closed" in said[3]
    assert "no_such_job" in said[4]
    assert "instance nobody" in said[4]
    assert said[5] == "ok\n"


def test_the_page_names_every_verb() -> None:
    table = PAGE[PAGE.index("## Verbs") : PAGE.index("## Streams")]
    assert set(re.findall(r"`(\w+)\(", table)) - {"WorkflowBuilder"} >= CONTRACT - {"close"}


def test_the_page_tells_the_defaults_of_patience() -> None:
    told: dict[str, str] = {}
    for names, values in re.findall(r"^\| (`[a-z_`, ]+_s`) \| ([^|]+) \|", PAGE, re.MULTILINE):
        told |= dict(zip(re.findall(r"\w+", names), [each.strip() for each in values.split(",")], strict=True))
    defaults = {
        name: "none" if value is None else f"{value:g}" for name, value in msgspec.structs.asdict(Patience()).items()
    }
    assert told == defaults
