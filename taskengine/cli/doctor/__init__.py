"""What `taskengine doctor` looks at; nothing here changes anything."""

from taskengine.cli.doctor.finding import Finding

__all__ = ["Finding"]
