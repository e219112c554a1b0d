"""Where the `taskengine` program is: the one that belongs to the Python that runs the example."""

import shutil
import sys
from pathlib import Path

__all__ = ["taskengine_program"]


def taskengine_program() -> str:
    """The path of the program beside this Python, else the first one on the PATH. Raises SystemExit without one."""
    beside = Path(sys.executable).with_name("taskengine")
    found = str(beside) if beside.is_file() else shutil.which("taskengine")
    if found is None:
        raise SystemExit("There is no `taskengine` program beside this Python or on the PATH; `make setup` installs it.")
    return found
