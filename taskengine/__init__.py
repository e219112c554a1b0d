"""taskengine: a durable workflow engine that ships as one file."""

from taskengine.version import VERSION

__all__ = ["VERSION"]
