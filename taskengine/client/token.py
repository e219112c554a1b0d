"""The token that a client shows, and where it has it from."""

import re
from pathlib import Path
from typing import Final

from taskengine.errors import InvalidConfiguration

__all__ = ["Token"]

_SHAPE: Final = re.compile(r"[!-~]{1,512}")
"""What may stand in a header: visible ASCII without spaces."""


class Token:
    """A secret and its origin. The origin may be shown, the secret never is: not in a text, not in a repr.

    One from a file is read when it is first needed, and again when the server refuses it: files are replaced by
    `taskengine token rotate` while programs run.
    """

    def __init__(self, *, secret: str | None = None, path: Path | None = None, origin: str = "") -> None:
        self._secret = None if secret is None else _checked(secret, origin)
        self._path = path
        self.origin = origin

    def __repr__(self) -> str:
        return f"Token({self.origin or 'none'})"

    @property
    def known(self) -> bool:
        """Whether there is one at all."""
        return self._secret is not None or self._path is not None

    def secret(self) -> str | None:
        """None without one. Raises InvalidConfiguration for a file that cannot be read or holds something else."""
        if self._secret is None and self._path is not None:
            self._secret = self._read(self._path)
        return self._secret

    def refresh(self) -> bool:
        """Read the file again; whether it holds another one than before."""
        if self._path is None:
            return False
        before, self._secret = self._secret, self._read(self._path)
        return self._secret != before

    def _read(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                data = file.read(4096)
        except OSError as error:
            raise InvalidConfiguration(f"{self.origin}: cannot read it: {error.strerror or error}") from None
        return _checked(data.decode("ascii", "replace").strip(), self.origin)


def _checked(secret: str, origin: str) -> str:
    if not _SHAPE.fullmatch(secret):
        raise InvalidConfiguration(f"{origin}: this holds no token; a token is one line of visible ASCII, like te_…")
    return secret
