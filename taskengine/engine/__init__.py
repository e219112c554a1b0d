"""The engine: a pure planner, and the actors that carry out what it decides."""

__all__: list[str] = []
