"""Completion in bash, zsh and fish: the scripts that a shell loads, and the answer when a key was pressed."""

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from taskengine.cli import exits

if TYPE_CHECKING:
    import click
    from click.shell_completion import ShellComplete

__all__ = ["VARIABLE", "answer", "script_for"]

VARIABLE: Final = "_TASKENGINE_COMPLETE"
"""Set by the scripts: `bash_complete` and the like. What was typed comes in _TASKENGINE_LINE, or as click has it."""

_PATIENCE_S: Final = 1.0
_PROGRAM: Final = "taskengine"

# As click's own, but with each word quoted, with nothing of what goes wrong on the person's screen, and with the line
# as it is: bash takes the words of an address such as http://host:80 apart.
_BASH: Final = """\
_taskengine_completion() {
    local IFS=$'\\n' kind value line
    COMPREPLY=()
    while IFS=',' read -r kind value; do
        case "$kind" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(_TASKENGINE_LINE="${COMP_LINE:0:$COMP_POINT}" _TASKENGINE_COMPLETE=bash_complete "$1" 2>/dev/null)
}

complete -o nosort -F _taskengine_completion taskengine
"""


def script_for(shell: str) -> str:
    """What the shell is to load, without a line end behind it."""
    from click.shell_completion import FishComplete, ZshComplete

    if shell == "bash":
        return _BASH.rstrip()
    maker = ZshComplete if shell == "zsh" else FishComplete
    return maker(_root(), {}, _PROGRAM, VARIABLE).source().strip()


def answer(instruction: str) -> int:
    """Print what fits behind what was typed; nothing where anything goes wrong or takes too long."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        completer = _completer(instruction)
        if completer is None:
            return exits.USAGE
        sys.stdout.write(completer.complete() + "\n")
        sys.stdout.flush()
    except Exception:
        return exits.ERROR  # whoever pressed a key did not ask a question
    return exits.OK


def _completer(instruction: str) -> "ShellComplete | None":
    from click.shell_completion import BashComplete, get_completion_class, split_arg_string

    class Bash(BashComplete):
        def get_completion_args(self) -> tuple[list[str], str]:
            line = os.environ["_TASKENGINE_LINE"]
            words = split_arg_string(line)[1:]
            return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])

    shell, _, task = instruction.partition("_")
    maker = Bash if shell == "bash" else get_completion_class(shell)
    return None if maker is None or task != "complete" else maker(_root(), {}, _PROGRAM, VARIABLE)


def _root() -> "click.Group":
    from taskengine.cli.tree import ROOT

    return ROOT


def _give_up(number: int, frame: FrameType | None) -> Any:
    # Not through an exception: a library under way might take it for its own.
    os._exit(exits.TIMED_OUT)
