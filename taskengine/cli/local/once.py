"""An engine in this process for one errand: definitions, tokens, functions. It takes up no instance."""

import contextlib
from collections.abc import AsyncIterator

from taskengine.ambient import Ambient
from taskengine.api.gate.tokens import TokenBook
from taskengine.cli.local.work import make_builder
from taskengine.config.sections import RetentionConfig
from taskengine.engine.engine import Engine

__all__ = ["engine_for_an_errand", "token_book"]


@contextlib.asynccontextmanager
async def engine_for_an_errand(
    ambient: Ambient, dsn: str, retention: RetentionConfig | None = None
) -> AsyncIterator[Engine]:
    """Without `retention` it keeps all. Raises StoreLocked while another process has the store, and whatever opening
    it raises.
    """
    builder = make_builder(ambient, dsn, (), None).with_recovery(False)
    if retention is not None:
        builder.with_retention(success=retention.success, failed=retention.failed)
    async with builder.build() as engine:
        yield engine


@contextlib.asynccontextmanager
async def token_book(ambient: Ambient, dsn: str) -> AsyncIterator[TokenBook]:
    """The tokens of a database, as the server on it would have them."""
    async with engine_for_an_errand(ambient, dsn) as engine:
        book = TokenBook(engine, ambient)
        await book.load()
        yield book
