"""Names for the identifiers that rows and messages carry."""

from typing import NewType

__all__ = ["CommandId", "InstanceId", "Ordinal", "Version", "WorkflowId"]

WorkflowId = NewType("WorkflowId", str)
"""What the user called the workflow; unique in one database."""

Version = NewType("Version", str)
"""SHA-256, in hex, of a definition's canonical form."""

InstanceId = NewType("InstanceId", str)
"""UUIDv7 in canonical form."""

Ordinal = NewType("Ordinal", int)
"""A task's number inside its instance: definition order first, then in the order in which tasks were added."""

CommandId = NewType("CommandId", str)
"""Names one command, so that a second copy of it has the same answer and no second effect."""
