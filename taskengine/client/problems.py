"""Bad answers as the errors that the engine itself would have raised."""

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from taskengine.client.steps import Answer
from taskengine.errors import (
    CommitFailed,
    Conflict,
    InvalidConfiguration,
    InvalidDefinition,
    InvalidInput,
    InvalidParams,
    NotAllowed,
    NotFound,
    NotSupportedYet,
    Problem,
    ServerUnreachable,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TaskEngineError,
    TooManyRequests,
    Unavailable,
    WaitTimeout,
)
from taskengine.wire.envelope import PROBLEM_TYPE, FieldProblem, ProblemBody

__all__ = ["Missing", "error_of", "foreign", "retry_after"]

_PROBLEM: Final = msgspec.json.Decoder(ProblemBody)
_NOT_FOUND: Final = re.compile(r"no (?P<kind>[a-z ]+) '(?P<name>[^']*)'(?:; (?P<hint>.*))?", re.DOTALL)


class Missing(NotFound):
    """NotFound in the words of a server that says it otherwise than ours."""

    def __init__(self, detail: str) -> None:
        super().__init__("", "", detail)
        self.args = (detail,)

    def __str__(self) -> str:
        return self.hint


def error_of(answer: Answer, address: str) -> TaskEngineError:
    """The error that a bad answer stands for: by its `code`, else by its status."""
    problem = _problem(answer)
    if problem is None:
        return foreign(answer, address)
    make = _BY_CODE.get(problem.code) or _BY_STATUS.get(answer.status)
    if make is not None:
        return make(problem, answer)
    if 400 <= answer.status < 500:
        return InvalidInput(problem.detail)
    known = f" (error {problem.id} in the server's log)" if problem.id and problem.id not in problem.detail else ""
    return TaskEngineError(f"{problem.detail}{known}")


def foreign(answer: Answer, address: str) -> TaskEngineError:
    """For an answer that no server of ours gives."""
    kind = answer.headers.get("content-type", "no content type").partition(";")[0]
    if answer.status in (301, 302, 303, 307, 308):
        place = answer.headers.get("location", "another place")
        return ServerUnreachable(address, f"it sends everyone to {place}; give that server's address instead")
    if answer.status in (502, 503, 504):
        return ServerUnreachable(
            address, f"a proxy answers there ({answer.status}) and reaches no server; see whether it runs"
        )
    return ServerUnreachable(
        address,
        f"what answers there is no taskengine server (status {answer.status}, {kind}); "
        "check host, port and path; `taskengine serve` says its address when it starts",
    )


def retry_after(answer: Answer) -> float | None:
    """Seconds of the header Retry-After; None without one. Dates are not used by our servers and not read."""
    said = answer.headers.get("retry-after", "").strip()
    return float(said) if re.fullmatch(r"\d{1,6}(\.\d+)?", said) else None


def _problem(answer: Answer) -> ProblemBody | None:
    if not answer.headers.get("content-type", "").startswith(PROBLEM_TYPE):
        return None
    try:
        return _PROBLEM.decode(answer.body)
    except msgspec.DecodeError:
        return None


def _listed(problem: ProblemBody) -> list[Problem]:
    return [_one(each) for each in problem.errors] or [Problem(message=problem.detail)]


def _one(each: FieldProblem) -> Problem:
    return Problem(
        message=each.message,
        path=each.path,
        file=each.file,
        line=each.line,
        column=each.column,
        excerpt=each.excerpt,
    )


def _not_found(problem: ProblemBody, _: Answer) -> TaskEngineError:
    said = _NOT_FOUND.fullmatch(problem.detail)
    return NotFound(said["kind"], said["name"], said["hint"] or "") if said else Missing(problem.detail)


def _too_many(problem: ProblemBody, answer: Answer) -> TaskEngineError:
    return TooManyRequests(problem.detail, retry_after(answer) or 0.0)


def _told(kind: type[TaskEngineError]) -> Callable[[ProblemBody, Answer], TaskEngineError]:
    return lambda problem, _: kind(problem.detail)


_Make = Callable[[ProblemBody, Answer], TaskEngineError]

# Errors whose constructors want more than the text (which state, which key) become the class above them.
_BY_CODE: Final[Mapping[str, _Make]] = {
    "not_found": _not_found,
    "too_many_requests": _too_many,
    "invalid_definition": lambda problem, _: InvalidDefinition(_listed(problem)),
    "invalid_params": lambda problem, _: InvalidParams(_listed(problem)),
    "illegal_move": _told(Conflict),
    "duplicate_key": _told(Conflict),
    "lost_instance": _told(CommitFailed),
    **{
        kind.code: _told(kind)
        for kind in (
            CommitFailed,
            Conflict,
            InvalidConfiguration,
            InvalidInput,
            NotAllowed,
            NotSupportedYet,
            StoreError,
            StoreFull,
            StoreUnavailable,
            Unavailable,
            WaitTimeout,
        )
    },
}
_BY_STATUS: Final[Mapping[int, _Make]] = {
    401: _told(NotAllowed),
    403: _told(NotAllowed),
    404: _not_found,
    409: _told(Conflict),
    429: _too_many,
    503: _told(Unavailable),
}
