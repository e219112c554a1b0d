"""Errors as people read them: what was wrong, where, and what to do next; and the exit code that scripts read."""

import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from taskengine.cli import exits
from taskengine.cli.safe import clean, clean_lines
from taskengine.errors import (
    Conflict,
    InvalidDefinition,
    InvalidInput,
    InvalidParams,
    NotAllowed,
    NotFound,
    Problem,
    ServerUnreachable,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
    TaskEngineError,
    WaitTimeout,
)

__all__ = ["exit_code_of", "explain", "problem_text", "report", "say"]

_CODES: Final[Sequence[tuple[type[BaseException], int]]] = (
    (InvalidDefinition, exits.INVALID_DEFINITION),
    (InvalidInput, exits.USAGE),
    (NotFound, exits.NOT_FOUND),
    (FileNotFoundError, exits.NOT_FOUND),
    (StoreLocked, exits.CONFLICT),
    (Conflict, exits.CONFLICT),
    (ServerUnreachable, exits.UNREACHABLE),
    (NotAllowed, exits.NOT_ALLOWED),
    (WaitTimeout, exits.TIMED_OUT),
)

_TOLD_TO_SERVERS: Final = frozenset({"instance", "workflow", "token"})
_LISTS: Final = {"workflow": "workflow list", "function": "function list", "token": "token list"}
"""Where the names of a kind of thing are shown; all else belongs to an instance."""


def say(text: str) -> None:
    """A message to the person, cleaned, on stderr."""
    sys.stderr.write(clean_lines(text) + "\n")
    sys.stderr.flush()


def report(error: Exception, arguments: Sequence[str] = ()) -> int:
    """Say it on stderr; returns the exit code. What is not of our tree is a bug and shows its traceback.

    arguments  of the command line, for advice how to say it otherwise
    """
    if not isinstance(error, TaskEngineError | OSError):
        say("".join(traceback.format_exception(error)).rstrip())
        say("Error: this should not have happened and is a bug in taskengine")
        return exits.ERROR
    say(explain(error))
    if isinstance(error, StoreLocked):
        say(_around_the_lock(error, arguments))
    return exit_code_of(error)


def exit_code_of(error: Exception) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), exits.ERROR)


def explain(error: TaskEngineError | OSError) -> str:
    """The message; may have several lines, not cleaned yet."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words(error)
    return f"Error: {error}"


def problem_text(problem: Problem) -> str:
    """One problem as compilers show it: place and message, the line, a caret under the character."""
    where = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file or problem.path
    head = f"{where}: {problem.message}" if where else problem.message
    if not problem.excerpt:
        return head
    return f"{head}\n    {problem.excerpt}\n    {_indent(problem.excerpt[: problem.column - 1])}^"


def _indent(before: str) -> str:
    # As wide as what stands before the caret: a Chinese character fills two cells, a tab stays one.
    from rich.cells import cell_len

    return "".join("\t" if char == "\t" else " " * cell_len(char) for char in before)


def _problems(error: InvalidDefinition | InvalidParams) -> str:
    lines = [problem_text(problem) for problem in error.problems]
    count = len(error.problems)
    return "\n".join([*lines, f"Error: {count} problem{'s' if count != 1 else ''}"])


def _around_the_lock(error: StoreLocked, arguments: Sequence[str]) -> str:
    """The same command for the server that has the store, if it is one and can be told."""
    from taskengine.store.lock import holder_of

    address = holder_of(Path(error.path)).address
    if not address or not arguments or arguments[0] not in _TOLD_TO_SERVERS:
        return "Wait for it, or stop that process (Ctrl-C lets it save its work), then try again."
    words = list(arguments)
    for at, word in enumerate(words):
        if word == "--db":
            del words[at : at + 2]
            break
        if word.startswith("--db="):
            del words[at]
            break
    return f"Ask that server:  taskengine {shlex.join([*words, '--server', address])}"


def _missing(error: NotFound) -> str:
    hint = "" if error.hint else f"; `taskengine {_LISTS.get(error.kind, 'instance list')}` shows what there is"
    return f"Error: {error}{hint}"


def _os_error(error: OSError) -> str:
    if error.filename is None:
        return f"Error: {error}"
    name = clean(str(error.filename))
    if isinstance(error, FileNotFoundError):
        return f"Error: no file {name}{_near_file(Path(name))}"
    return f"Error: {name}: {error.strerror}"


def _near_file(path: Path) -> str:
    from taskengine.model.spelling import nearest

    try:
        found = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""
    return f", did you mean {shlex.quote(str(path.with_name(found)))}?" if found else ""


def _unavailable(error: StoreUnavailable) -> str:
    return f"Error: {error}\nThe database is busy or gone. What was acknowledged is saved; try again."


def _full(error: StoreFull) -> str:
    return f"Error: {error}\nThe disk of the database is full. What was acknowledged is saved; make room and try again."


_WORDS: Final[Sequence[tuple[type[BaseException], Callable[..., str]]]] = (
    (InvalidDefinition, _problems),
    (InvalidParams, _problems),
    (StoreFull, _full),
    (StoreUnavailable, _unavailable),
    (NotFound, _missing),
    (OSError, _os_error),
)
