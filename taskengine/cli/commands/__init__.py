"""One module per command or group; each defines one click command named `command`."""

__all__: list[str] = []
