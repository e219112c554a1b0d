"""Lines out of chunks."""

__all__ = ["LineCutter"]


class LineCutter:
    """Cuts at `\\n` and nowhere else: JSON may hold the line separators of Unicode as they are.

    A last line without its end is not a line: the connection was cut within it.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are complete now, without ends and without empty ones."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        return [line for line in whole if line.strip()]
