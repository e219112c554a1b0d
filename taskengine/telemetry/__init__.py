"""What the process says of itself: the log. Import from the modules."""

__all__: list[str] = []
