"""What differs between the databases in the text of a query; all else of a dialect is in its `.sql` files."""

import re
from collections.abc import Collection
from typing import Final

import msgspec

__all__ = ["SQLITE", "Dialect"]

_MARK: Final = re.compile(r"\?\d*")
_JSON: Final = re.compile(r"\{(\w+(?:\.\w+)?)\}")
_TEXTS, _NUMBERS = "{texts ?}", "{numbers ?}"


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How the forms that our queries are written in are said to one database.

    name     of its folder below `sql/`
    mark     where a value is bound; None: as it is written, `?`
    blob     a column with JSON, read as bytes: `{params}` in a query
    texts    the rows of a JSON list of texts that is bound as one value: `{texts ?}`
    numbers  the same of whole numbers: `{numbers ?}`
    in_texts, in_numbers  `IN {texts ?}` and `IN {numbers ?}`, said so that an index answers; empty: they do as they are
    binds_lists  these two are the list itself, as it may follow IN and nowhere else
    quote    around a name that is a word of the language; in our queries it is `"`, which stands nowhere else
    aside    a column, in a form that keeps its indexes out
    lead     behind a table: the index that a list begins at; empty: the database finds it by itself
    rows_in_order  an index answers `(a, b) < (?, ?)`
    holds_nul      a text may have the character U+0000
    length         how many bytes a text has
    number         the column that says in which order the rows of a table came, where it has one
    legs_apart     each part of a UNION ALL may have an ORDER BY and a LIMIT of its own, and needs them to be quick
    """

    name: str
    mark: str | None = None
    blob: str
    texts: str
    numbers: str
    aside: str
    lead: str = ""
    in_texts: str = ""
    in_numbers: str = ""
    binds_lists: bool = False
    quote: str = '"'
    rows_in_order: bool = True
    legs_apart: bool = False
    holds_nul: bool = True
    length: str = "length({})"
    number: str = "number"

    def listed(self, values: Collection[str] | Collection[int]) -> object:
        """Many values as the one that `{texts ?}` or `{numbers ?}` takes."""
        return list(values) if self.binds_lists else msgspec.json.encode(list(values)).decode()

    def quoted(self, name: str) -> str:
        """A name that could be a word of the language."""
        return f"{self.quote}{name}{self.quote}"

    def say(self, sql: str) -> str:
        """A query of ours in this database's words. A `?` never stands inside a text of ours."""
        said = sql.replace('"', self.quote)
        said = said.replace(f"IN {_TEXTS}", self.in_texts or f"IN {_TEXTS}").replace(_TEXTS, self.texts)
        said = said.replace(f"IN {_NUMBERS}", self.in_numbers or f"IN {_NUMBERS}").replace(_NUMBERS, self.numbers)
        return _JSON.sub(lambda match: self.blob.format(match[1]), said)

    def marked(self, sql: str) -> str:
        """With the driver's marks instead of ours: the last step, after which nothing may be put together."""
        return sql if self.mark is None else _MARK.sub(self.mark, sql.replace("%", "%%"))


SQLITE: Final = Dialect(
    name="sqlite",
    blob="CAST({} AS BLOB)",
    texts="(SELECT value FROM json_each(?))",
    numbers="(SELECT value FROM json_each(?))",
    length="length(CAST({} AS BLOB))",
    number="rowid",
    aside="+{}",  # https://sqlite.org/optoverview.html#disqualifying_where_clause_terms_using_unary_
)
