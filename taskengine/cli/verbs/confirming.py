"""Asking before something is lost."""

import sys

from taskengine.cli.safe import clean
from taskengine.cli.terminal import is_terminal
from taskengine.errors import InvalidConfiguration

__all__ = ["confirm"]


def confirm(question: str, *, yes: bool) -> bool:
    """Whether to go on. Asks on a terminal, where No is what Enter says.

    yes  of `--yes`: not asked
    Raises InvalidConfiguration where there is nobody to ask.
    """
    if yes:
        return True
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise InvalidConfiguration(f"{clean(question)} Nobody can be asked here; say --yes if that is meant")
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    answered = sys.stdin.readline().strip().lower() in ("y", "yes")
    if not answered:
        sys.stderr.write("Nothing was changed.\n")
    return answered
