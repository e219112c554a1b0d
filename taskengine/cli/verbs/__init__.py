"""What the commands do. Their options are in `commands`, which import these when a command is called."""

__all__: list[str] = []
