"""Streams: committed events and passing remarks, told to many WebSockets and event streams at once."""

__all__: list[str] = []
