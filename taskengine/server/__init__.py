"""The server: the API over HTTP, the engine below it, and the life of the process. `serve` is all of it."""

from taskengine.server.serving import serve

__all__ = ["serve"]
