"""Frozen truth: ids, state tables, definitions, records, messages, events, graphs. Pure; imports nothing above it.

Import from the modules: `from taskengine.model.states import TaskState`.
"""

__all__: list[str] = []
