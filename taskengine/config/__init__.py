"""Settings: what a server is told by file, environment and flags, and where it keeps what it makes."""

__all__: list[str] = []
