"""The outside of every answer: an envelope around data, or a problem."""

from typing import Generic, TypeVar

import msgspec

__all__ = ["PROBLEM_TYPE", "Envelope", "FieldProblem", "Page", "ProblemBody"]

T = TypeVar("T")

PROBLEM_TYPE = "application/problem+json"


class Envelope(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A success. `code` is 0 and `message` is "success", whatever the HTTP status is."""

    code: int = 0
    message: str = "success"
    data: T


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list.

    total     how many there are in all; null where counting them was not asked for
    cursor    opaque; hand it back as `?cursor=` for what follows, null at the end
    """

    items: list[T]
    has_more: bool = False
    cursor: str | None = None
    total: int | None = None


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with what was sent.

    path           keys that lead to it, e.g. `tasks[2].retry.count`
    line, column   count from 1 in the text that was sent; 0: not known
    excerpt        the offending line
    """

    message: str
    path: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True):
    """An error, as RFC 9457 has it, with a `code` for programs.

    type     about:blank, or an address that explains this kind of error
    title    of the status, the same each time
    detail   what was wrong with this request, and what would be right
    code     stable, from `taskengine.errors`, e.g. `not_found`; programs switch on it
    message  the same text as `detail`, for clients that read envelopes only
    errors   each single problem of a definition or of params
    id       names this occurrence in the server's log
    """

    title: str
    status: int
    detail: str
    code: str
    message: str
    type: str = "about:blank"
    errors: list[FieldProblem] = []
    id: str = ""
