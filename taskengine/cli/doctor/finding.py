"""One line of the doctor's report."""

from typing import Literal

import msgspec

__all__ = ["Finding", "fail", "ok", "warn"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and how it is.

    id      what was looked at, such as `database.lock`
    detail  how it is
    advice  what to do; empty when it is well
    """

    id: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


def ok(what: str, detail: str) -> Finding:
    return Finding(id=what, status="ok", detail=detail)


def warn(what: str, detail: str, advice: str) -> Finding:
    return Finding(id=what, status="warn", detail=detail, advice=advice)


def fail(what: str, detail: str, advice: str) -> Finding:
    return Finding(id=what, status="fail", detail=detail, advice=advice)
