"""Entry points, and the answers that must be quick: `--help` and `version` come without click, engine or YAML.

Everything else goes to `taskengine.cli.tree`, which is imported then.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from taskengine.cli import exits
from taskengine.version import VERSION

if TYPE_CHECKING:
    from taskengine.ambient import Ambient

__all__ = ["COMMANDS", "LATER", "help_text", "main", "run"]

COMMANDS: Final = {
    "run": "run a workflow file to its end, or go on with a run that was cut short",
    "serve": "run a server: the API, the engine, everything",
    "validate": "check workflow files and report every problem",
    "workflow": "store definitions, look at them, start them",
    "explain": "say why an instance or a task waits or failed, and what would move it on",
    "instance": "look at instances and change them: list, status, logs, watch, pause, cancel, retry",
    "function": "job functions: list, show",
    "token": "who may ask a server: create, list, revoke, rotate",
    "db": "look after a database: status, migrate, backup, move",
    "node": "running servers of a store",
    "server": "start: the same as serve",
    "config": "look at the settings of a server: show",
    "doctor": "check configuration, database and machine, and say how to mend",
    "schema": "print the JSON Schema of workflow files",
    "completion": "print a completion script for bash, zsh or fish",
    "version": "print the version",
}
"""What there is, with one line each, in the order of the help."""

LATER: Final = frozenset({"tui", "schedule", "plugin", "secret"})
"""Names of commands that later releases bring."""

_HELP: Final = """\
Usage: taskengine COMMAND [OPTIONS]

A durable workflow engine. Try:

  taskengine run workflow.yaml -p name=value
  taskengine run --resume
  taskengine instance list
  taskengine serve

Commands:
{commands}

Options:
  -h, --help  of any command: how to use it
  --version   the same as `version`

Commands ask --server URL (or $TASKENGINE_SERVER), else look into --db DSN, else ask
the server that runs on this machine, else look through this machine's runs.

Exit codes:
  0 ok, 1 error, 2 usage, 3 not found, 4 invalid definition, 5 conflict or locked,
  6 server unreachable, 7 not allowed, 8 timed out waiting, 9 the instance failed,
  10 it was cancelled, 11 compensated, 12 compensation failed, 130 interrupted.

Data goes to stdout, messages and progress to stderr. Runs are kept in
$TASKENGINE_HOME, else in the XDG data folder."""


def help_text() -> str:
    """What `taskengine --help` prints."""
    return _HELP.format(commands="\n".join(f"  {name:<10}  {line}" for name, line in COMMANDS.items()))


def main(argv: Sequence[str], ambient: "Ambient | None" = None) -> int:
    """Run one command line, without the program's name; returns the exit code. `ambient` None: a plain process."""
    arguments = list(argv)
    if "_TASKENGINE_COMPLETE" in os.environ:
        from taskengine.cli.completion import VARIABLE, answer

        return answer(os.environ[VARIABLE])
    try:
        code = _quick(arguments)
        if code is None:
            from taskengine.cli.tree import invoke

            code = invoke(arguments, ambient)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has left, as in `| head -1`. Python would complain while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exits.BROKEN_PIPE
    return code


def run() -> None:
    """The console script and `python -m taskengine`."""
    sys.exit(main(sys.argv[1:]))


def _quick(arguments: list[str]) -> int | None:
    if arguments in ([], ["-h"], ["--help"]):
        sys.stdout.write(help_text() + "\n")
        return exits.OK
    if arguments in (["version"], ["--version"], ["version", "--json"]):
        sys.stdout.write(version_text(as_json="--json" in arguments) + "\n")
        return exits.OK
    return None


def version_text(*, as_json: bool) -> str:
    """`taskengine 1.2.3`, or the same as a JSON object with the Python that runs it."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    if as_json:
        # No JSON encoder: importing one costs more than the rest, and neither text needs escaping.
        return f'{{"version": "{VERSION}", "python": "{python}", "platform": "{sys.platform}"}}'
    return f"taskengine {VERSION}"
