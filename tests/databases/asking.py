"""Plain SQL to a database server, with its own driver and without the product."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncmy
import psycopg

__all__ = ["ask", "kind_of", "with_database"]


def kind_of(dsn: str) -> str:
    """`postgresql` or `mysql`."""
    return "postgresql" if dsn.startswith(("postgresql:", "postgres:")) else "mysql"


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def ask(dsn: str, *statements: str, timeout_s: float = 10) -> list[list[Sequence[Any]]]:
    """The rows of each statement, committed one by one on a connection of their own. Raises the driver's errors."""
    if kind_of(dsn) == "postgresql":
        with psycopg.connect(dsn, autocommit=True, connect_timeout=int(timeout_s)) as connection:
            found = [connection.execute(statement.encode()) for statement in statements]
            return [list(cursor.fetchall()) if cursor.description else [] for cursor in found]
    answers: list[Any] = []

    def work() -> None:
        try:
            answers.append(asyncio.run(asyncio.wait_for(_ask_mysql(dsn, statements), timeout_s)))
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=work)  # the test may have a running loop
    thread.start()
    thread.join()
    if isinstance(answers[0], BaseException):
        raise answers[0]
    rows: list[list[Sequence[Any]]] = answers[0]
    return rows


async def _ask_mysql(dsn: str, statements: Sequence[str]) -> list[list[Sequence[Any]]]:
    parts = urlsplit(dsn)
    connection = await asyncmy.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        db=parts.path.strip("/") or None,
        autocommit=True,
        connect_timeout=5,
    )
    try:
        found = []
        async with connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
                found.append(list(await cursor.fetchall()) if cursor.description else [])
        return found
    finally:
        connection.close()
