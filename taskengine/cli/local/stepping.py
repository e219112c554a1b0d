"""An asynchronous iterator, read by a program that blocks."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

__all__ = ["stepped"]

T = TypeVar("T")


def stepped(source: AsyncIterator[T]) -> Iterator[T]:
    """Item by item, on a loop of its own that rests in between; closed when the reader leaves."""

    async def following() -> T | None:
        return await anext(source, None)

    with asyncio.Runner() as runner:
        try:
            while (item := runner.run(following())) is not None:
                yield item
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                runner.run(close())
