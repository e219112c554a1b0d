"""What `taskengine serve` does: settings from the command line to a running server."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from taskengine.ambient import Ambient
from taskengine.cli.safe import clean_lines
from taskengine.cli.settings import load_settings

__all__ = ["program_name", "serve"]


def serve(ambient: Ambient | None, options: dict[str, Any]) -> int:
    """Returns the exit code of the server's life; raises what keeps it from starting."""
    settings = load_settings(options)
    # Deferred: a mistake in the settings is told in a fraction of the time that the web server takes to load.
    from taskengine import server

    return server.serve(settings, ambient, shown=clean_lines, program=program_name(sys.argv, os.environ))


def program_name(argv: list[str], environ: Any) -> str:
    """How this program is called, for commands that somebody copies."""
    archive = environ.get("TASKENGINE_PYZ", "")
    if archive:
        return f"{shlex.quote(sys.executable)} {shlex.quote(archive)}"
    called = Path(argv[0]) if argv else Path()
    if called.name == "taskengine":
        return "taskengine" if _is_on_path(called, environ) else shlex.quote(str(called))
    return f"{shlex.quote(sys.executable)} -m taskengine"


def _is_on_path(program: Path, environ: Any) -> bool:
    import shutil

    found = shutil.which("taskengine", path=environ.get("PATH"))
    return found is not None and Path(found).resolve() == program.resolve()
