"""Showing an instance while it moves: what is known of it, how it is painted, and following it to its rest."""

__all__: list[str] = []
