"""Keeping stdout for the result while users' code runs in this process."""

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["stdout_kept_for_data"]


@contextlib.contextmanager
def stdout_kept_for_data() -> Iterator[None]:
    """What jobs and the programs they start print to stdout comes out on stderr."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
