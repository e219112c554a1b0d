"""The file with the local token: the plain secret of one user, on one machine.

It is never half written: a new one is written beside it, synced, and takes its name at once.
"""

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from taskengine.errors import InvalidConfiguration

__all__ = ["read_secret", "write_secret"]

_SECRET: Final = re.compile(r"te_[A-Za-z0-9_-]{43}")
_LARGEST: Final = 4096


def read_secret(path: Path) -> str | None:
    """The secret, or None without a file. Raises InvalidConfiguration for a file that holds something else or that
    others may read, OSError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(handle)
        text = file.read(_LARGEST).decode("ascii", errors="replace").strip()
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid():
        raise InvalidConfiguration(f"{path} is not a file of this user; move it away, a new one will be made")
    if facts.st_mode & 0o077:
        raise InvalidConfiguration(
            f"others may read {path}; its token may be known. Remove it, a new one will be made, or `chmod 600` it"
        )
    if not _SECRET.fullmatch(text):
        raise InvalidConfiguration(f"{path} holds no token; move it away, a new one will be made")
    return text


def write_secret(path: Path, secret: str) -> None:
    """Put it there with mode 0600; a missing folder is made with mode 0700. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(handle)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        raise
