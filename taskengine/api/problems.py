"""Every error as one kind of answer: `application/problem+json`, with a stable `code` and never a traceback."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar.exceptions import HTTPException

from taskengine.errors import (
    CommitFailed,
    Conflict,
    InvalidDefinition,
    InvalidExpression,
    InvalidInput,
    InvalidParams,
    NotFound,
    Problem,
    StoreError,
    TaskEngineError,
    Unavailable,
)
from taskengine.wire import FieldProblem, ProblemBody

__all__ = ["CODES", "RETRY_S", "Answer", "Refusal", "allowed_methods", "is_a_bug", "problem_of", "refusal_body"]

RETRY_S: Final = 1
"""Seconds after which a 503 may be tried again."""

_LONGEST: Final = 2000
_MOST_ERRORS: Final = 100

CODES: Final[Mapping[int, str]] = {
    400: "invalid_input",
    401: "not_authenticated",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    412: "precondition_failed",
    413: "too_large",
    415: "unsupported_type",
    421: "misdirected",
    422: "invalid_definition",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}
"""The code of a status where no error of the engine gives a narrower one."""

_STATUS: Final[tuple[tuple[type[TaskEngineError], int], ...]] = (
    (InvalidDefinition, 422),
    (InvalidParams, 422),
    (InvalidExpression, 422),
    (InvalidInput, 400),
    (NotFound, 404),
    (Conflict, 409),
    (CommitFailed, 503),
    (Unavailable, 503),
    (StoreError, 503),
)


class Refusal(Exception):
    """The API itself says no. `headers` go out with the answer."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def __str__(self) -> str:
        return f"{self.status} {self.detail}"


class Answer(msgspec.Struct, frozen=True):
    """A problem with the headers that belong to it."""

    body: ProblemBody
    headers: Mapping[str, str] = {}

    def encoded(self) -> bytes:
        return msgspec.json.encode(self.body)


def problem_of(error: Exception, occurrence: str) -> Answer:
    """What an error looks like outside. Pure; whether it is logged is said by `is_a_bug`."""
    if isinstance(error, Refusal):
        return Answer(refusal_body(error.status, error.detail), error.headers)
    if isinstance(error, TaskEngineError):
        return _of_engine(error, occurrence)
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _of_litestar(error)
    return Answer(
        refusal_body(500, f"the server failed; its log has the details under the id {occurrence}", id=occurrence)
    )


def refusal_body(status: int, detail: str, *, code: str = "", id: str = "", errors: Any = ()) -> ProblemBody:
    """A problem of this status; its text is bounded and has no lone surrogates."""
    text = _clean(detail)
    return ProblemBody(
        title=_title(status),
        status=status,
        detail=text,
        code=code or CODES.get(status, "error"),
        message=text,
        errors=list(errors),
        id=id,
    )


def _of_engine(error: TaskEngineError, occurrence: str) -> Answer:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        return Answer(refusal_body(500, f"the server failed: {error}", code=error.code, id=occurrence))
    if isinstance(error, InvalidDefinition | InvalidParams):
        fields = [_field(problem) for problem in error.problems[:_MOST_ERRORS]]
        return Answer(refusal_body(status, _summary(error), code=error.code, errors=fields))
    headers = {"Retry-After": str(RETRY_S)} if status == 503 else {}
    return Answer(refusal_body(status, str(error), code=error.code, id=occurrence if status == 503 else ""), headers)


def _summary(error: InvalidDefinition | InvalidParams) -> str:
    what = "the definition" if isinstance(error, InvalidDefinition) else "the params"
    count = len(error.problems)
    if not count:
        return f"{what} cannot be used"
    first = error.problems[0]
    text = f"{first.path}: {first.message}" if first.path else first.message
    return f"{what} cannot be used: {text}" if count == 1 else f"{count} problems with {what}; the first: {text}"


def _field(problem: Problem) -> FieldProblem:
    return FieldProblem(
        message=_clean(problem.message),
        path=_clean(problem.path),
        file=_clean(problem.file),
        line=problem.line,
        column=problem.column,
        excerpt=_clean(problem.excerpt),
    )


def _of_litestar(error: HTTPException) -> Answer:
    """Litestar's own: no such route, wrong method, parameters and bodies that cannot be read."""
    headers = {name.title(): value for name, value in (error.headers or {}).items()}
    if "Allow" in headers:
        headers["Allow"] = allowed_methods(headers["Allow"])
    fields = [_litestar_field(each) for each in error.extra or [] if isinstance(each, Mapping)]
    return Answer(refusal_body(error.status_code, _litestar_text(error, fields), errors=fields), headers)


def _litestar_text(error: HTTPException, fields: list[FieldProblem]) -> str:
    if fields:
        return f"the request cannot be used: {fields[0].path}: {fields[0].message}"
    if error.status_code == 404:
        return "there is nothing at this path; GET /schema lists the routes"
    if error.status_code == 405:
        return "this path does not know this method; the header Allow names those that it knows"
    return error.detail or _title(error.status_code)


def _litestar_field(extra: Mapping[str, Any]) -> FieldProblem:
    source, key = extra.get("source", ""), str(extra.get("key", ""))
    source = str(getattr(source, "value", source))  # an enumeration of Litestar's, whose text is its Python name
    return FieldProblem(
        message=_clean(str(extra.get("message", ""))), path=_clean(".".join(filter(None, (source, key))))
    )


def allowed_methods(listed: str) -> str:
    """What an Allow header says. OPTIONS is answered by the router for pages of other origins; there are none here."""
    return ", ".join(sorted({name.strip() for name in listed.split(",")} - {"OPTIONS", ""}))


def is_a_bug(error: Exception) -> bool:
    """Whether the server's owner should hear of it: everything that would be answered with a 500."""
    return problem_of(error, "").body.status == 500


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _clean(text: str) -> str:
    whole = text.encode(errors="replace").decode()
    return whole if len(whole) <= _LONGEST else whole[:_LONGEST] + "…"
