"""Durable state: one interface, its databases, and the checkpointer that commits for everybody.

Import from the modules: `from taskengine.store.opening import open_store`.
"""

__all__: list[str] = []
