"""Named SQL, read from the package once per dialect: the common queries, and over them those of the dialect."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

from taskengine.store.dialect import Dialect

__all__ = ["folder", "parse", "queries"]

_MARK: Final = "-- name: "


def folder(dialect: str) -> Traversable:
    """Where the `.sql` files of a dialect are; also inside an archive."""
    return files("taskengine.store").joinpath("sql", dialect)


@cache
def queries(dialect: Dialect) -> Mapping[str, str]:
    """All queries by name, as this database takes them."""
    own = folder(dialect.name)
    found = {**_read(files("taskengine.store").joinpath("sql", "queries.sql")), **_read(own.joinpath("queries.sql"))}
    columns = found["instance_columns"]
    found["unfinished"] = f"{columns} {found['unfinished']}"
    found["instance"] = f"{columns} WHERE id = ?"
    found["instance_by_key"] = f"{columns} WHERE workflow_id = ? AND idempotency_key = ?"
    found["instances_in"] = f"{columns} WHERE id IN {{texts ?}}"
    return MappingProxyType({name: dialect.say(sql) for name, sql in found.items()})


def _read(file: Traversable) -> dict[str, str]:
    return dict(parse(file.read_text("utf-8")))


def parse(text: str) -> Iterator[tuple[str, str]]:
    """Name and SQL of each query, without comment lines and without the closing semicolon.

    Raises ValueError for a name that occurs twice or has no query.
    """
    seen: set[str] = set()
    for part in ("\n" + text).split("\n" + _MARK)[1:]:
        name, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.strip() and not line.startswith("--")]
        sql = "\n".join(lines).strip().removesuffix(";")
        if not sql or name in seen:
            raise ValueError(f"query {name!r} is {'empty' if not sql else 'there twice'}")
        seen.add(name)
        yield name.strip(), sql
