"""The HTTP and WebSocket face of an engine: `app.make_app` puts it together; the gate stands in front of all of it.

Nothing is imported here: the command line takes `shapes` for its own stores and must not wait for a web framework.
"""

__all__: list[str] = []
