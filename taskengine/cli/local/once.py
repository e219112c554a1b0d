"""An engine in this process for one errand: definitions, tokens, functions. It takes up no instance."""

import contextlib
from collections.abc import AsyncIterator

from taskengine.ambient import Ambient
from taskengine.api.gate.tokens import TokenBook
from taskengine.cli.local.work import make_builder
from taskengine.engine.engine import Engine

__all__ = ["engine_for_an_errand", "token_book"]


@contextlib.asynccontextmanager
async def engine_for_an_errand(ambient: Ambient, dsn: str) -> AsyncIterator[Engine]:
    """Raises StoreLocked while another process has the store, and whatever opening it raises."""
    async with make_builder(ambient, dsn, (), None).with_recovery(False).build() as engine:
        yield engine


@contextlib.asynccontextmanager
async def token_book(ambient: Ambient, dsn: str) -> AsyncIterator[TokenBook]:
    """The tokens of a database, as the server on it would have them."""
    async with engine_for_an_errand(ambient, dsn) as engine:
        book = TokenBook(engine, ambient)
        await book.load()
        yield book
