"""The HTTP and WebSocket face of an engine. `make_app` puts it together; the gate stands in front of all of it."""

from taskengine.api.app import make_app
from taskengine.api.parts import ApiParts, HostRules, Limits

__all__ = ["ApiParts", "HostRules", "Limits", "make_app"]
