"""One table: each exit code, from a server and from this machine."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from taskengine.cli import exits

NOWHERE: Final = ("--server", "http://127.0.0.1:1")
UNKNOWN: Final = "ffffffff-0000-7000-8000-000000000000"


class World(msgspec.Struct, frozen=True):
    """What a case may use. `gate`: a file that lets the job `hold` end."""

    main: Callable[..., Any]
    start: Callable[..., "subprocess.Popen[str]"]
    served: Any
    upload: Callable[..., str]
    workflow: Callable[..., str]
    until: Callable[[Callable[[], Any]], Any]
    folder: Path
    gate: Path

    def code(self, *words: str) -> int:
        return int(self.main(*words).returncode)

    def ask(self, *words: str) -> int:
        """The server."""
        return self.code(*words, *self.served.flags)

    def started(self, *tasks: str) -> str:
        """The id of an instance on the server."""
        return str(self.main("workflow", "execute", self.upload(*tasks), *self.served.flags).stdout.strip())

    @property
    def holding(self) -> str:
        return f"name: a, job: hold, params: {{gate: '{self.gate}'}}"

    def running(self) -> "tuple[subprocess.Popen[str], str]":
        """A run of this machine in the middle of its task, and its id."""
        process = self.start("run", self.workflow(self.holding), "--app", "jobs.py")
        self.until(Path(f"{self.gate}.1").exists)
        (run_id,) = self.main("instance", "list", "-o", "id").lines
        return process, run_id

    def interrupted(self, process: "subprocess.Popen[str]") -> int:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        return process.returncode


def params_that_do_not_fit(world: World) -> int:
    return world.ask(
        "workflow", "execute", world.upload("name: a, job: noop", head="params: {n: {type: integer}}"), "-p", "n=x"
    )


def resumed_after_its_end(world: World) -> int:
    run_id = world.main("run", world.workflow("name: a, job: noop"), "-o", "id").stdout.strip()
    return world.code("instance", "resume", run_id)


def resumed_on_the_server_after_its_end(world: World) -> int:
    instance_id = world.started("name: a, job: noop")
    assert world.ask("instance", "watch", instance_id) == 0
    return world.ask("instance", "resume", instance_id)


def with_a_wrong_token(world: World) -> int:
    (world.folder / "token").write_text("te_" + "x" * 43)
    return world.code("workflow", "list", "--server", world.served.address, "--token-file", "token")


def a_run_that_is_not_waited_for(world: World) -> int:
    return world.code("instance", "watch", world.running()[1], "--timeout", "100ms")


def a_run_that_was_cancelled(world: World) -> int:
    process, run_id = world.running()
    process.kill()
    process.wait()
    assert world.code("instance", "cancel", run_id) == 0
    return world.code("instance", "watch", run_id)


def cancelled_on_the_server(world: World) -> int:
    instance_id = world.started(world.holding)
    assert world.ask("instance", "cancel", instance_id) == 0
    return world.ask("instance", "watch", instance_id)


def a_watch_that_is_left(world: World) -> int:
    watching = world.start("instance", "watch", world.started(world.holding), "--logs", *world.served.flags)
    world.until(lambda: any("socket:" in each for each in _files(watching.pid)))
    return world.interrupted(watching)


def _files(pid: int) -> list[str]:
    """What a process has open just now; a file that it closes between the two looks is not among them."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return found


SERVER: Final[dict[int, Callable[[World], int]]] = {
    exits.OK: lambda world: world.ask("workflow", "list"),
    exits.ERROR: lambda world: world.ask("workflow", "upload", "."),
    exits.USAGE: params_that_do_not_fit,
    exits.NOT_FOUND: lambda world: world.ask("instance", "status", UNKNOWN),
    exits.INVALID_DEFINITION: lambda world: world.ask("workflow", "upload", world.workflow("name: a, job: nop")),
    exits.CONFLICT: resumed_on_the_server_after_its_end,
    exits.UNREACHABLE: lambda world: world.code("instance", "list", *NOWHERE),
    exits.NOT_ALLOWED: with_a_wrong_token,
    exits.TIMED_OUT: lambda world: world.ask(
        "workflow", "execute", world.upload(world.holding), "--wait", "--timeout", "100ms"
    ),
    exits.FAILED: lambda world: world.ask("workflow", "execute", world.upload("name: a, job: fail"), "--wait"),
    exits.CANCELLED: cancelled_on_the_server,
    exits.INTERRUPTED: a_watch_that_is_left,
}

MACHINE: Final[dict[int, Callable[[World], int]]] = {
    exits.OK: lambda world: world.code("run", world.workflow("name: a, job: noop")),
    exits.ERROR: lambda world: world.code("validate", "."),
    exits.USAGE: lambda world: world.code("instance", "list", "--limit", "many"),
    exits.NOT_FOUND: lambda world: world.code("instance", "status", UNKNOWN),
    exits.INVALID_DEFINITION: lambda world: world.code("run", world.workflow("name: a, job: nop")),
    exits.CONFLICT: resumed_after_its_end,
    exits.UNREACHABLE: lambda world: world.code("node", "list"),
    exits.TIMED_OUT: a_run_that_is_not_waited_for,
    exits.FAILED: lambda world: world.code("run", world.workflow("name: a, job: fail")),
    exits.CANCELLED: a_run_that_was_cancelled,
    exits.INTERRUPTED: lambda world: world.interrupted(world.running()[0]),
}

NOT_BUILT: Final = frozenset({exits.COMPENSATED, exits.COMPENSATION_FAILED})
ELSEWHERE: Final = frozenset({exits.BROKEN_PIPE})
"""No answer of ours: the code of whoever writes into a closed pipe; `test_a_reader_that_leaves_is_no_error`."""


@pytest.fixture
def world(
    main: Any, start: Any, served: Any, upload: Any, workflow: Any, until: Any, folder: Path, tmp_path: Path
) -> Any:
    made = World(main, start, served, upload, workflow, until, folder, tmp_path / "gate")
    yield made
    made.gate.touch()


@pytest.mark.parametrize(
    ("case", "code"),
    [pytest.param(case, code, id=f"{where}-{code}") for where, table in (("server", SERVER), ("machine", MACHINE))
     for code, case in table.items()],
)  # fmt: skip
def test_each_ending_has_its_code(world: World, case: Callable[[World], int], code: int) -> None:
    assert case(world) == code


def test_every_code_is_in_the_table() -> None:
    known = {value for name in exits.__all__ if isinstance(value := getattr(exits, name), int)}
    assert known == set(SERVER) | NOT_BUILT | ELSEWHERE
    assert set(SERVER) - set(MACHINE) == {exits.NOT_ALLOWED}, "who may read the file is allowed"


def test_the_page_and_the_help_name_every_code() -> None:
    from taskengine.cli.root import help_text

    page = (Path(__file__).parents[2] / "docs/command-line.md").read_text()
    table = page.partition("## Exit codes")[2].partition("\n## ")[0]
    for code in [*SERVER, *NOT_BUILT]:
        assert f" {code} " in table.replace(",", " "), code
        assert f" {code} " in help_text().replace("\n", " "), code
