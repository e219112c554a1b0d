"""The functions that the workloads run, by their names."""

from collections.abc import Callable
from typing import Any, Final

__all__ = ["ALL", "add_one", "fib", "nothing"]


async def add_one(x: int) -> int:
    """The no-op of a chain: what it passes on shows that nothing was lost."""
    return x + 1


async def nothing() -> None:
    """The no-op of a fan-out."""


def fib(n: int) -> int:
    """Naive on purpose."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


ALL: Final[dict[str, Callable[..., Any]]] = {"add-one": add_one, "nothing": nothing, "fib": fib}
