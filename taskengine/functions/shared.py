"""What built-in jobs keep between calls, such as an HTTP client, closed when the caller stops."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

__all__ = ["Closable", "Shared"]


class Closable(Protocol):
    async def aclose(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Shared:
    """One object per key, made when first asked for. Loop thread only."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._lock = asyncio.Lock()

    async def get(self, key: str, make: Callable[[], Awaitable[C]]) -> C:
        if key not in self._made:
            async with self._lock:
                if key not in self._made:
                    self._made[key] = await make()
        return cast(C, self._made[key])

    async def aclose(self) -> None:
        while self._made:
            _, made = self._made.popitem()
            await made.aclose()
