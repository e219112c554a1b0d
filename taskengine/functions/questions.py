"""What a body may ask of the engine while it runs, and how it hears the answer, wherever it runs.

A question leaves through the call; its answer settles a future that any thread may wait for. An attempt that ends
before that leaves nobody waiting.
"""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final

import msgspec

from taskengine.errors import Conflict, InvalidInput, TaskEngineError, Unavailable

__all__ = ["AddSubTasks", "Answered", "Asker", "Nap", "OnAnswer", "OnAsk", "Question", "SubTasks", "refused", "settle"]


class AddSubTasks(msgspec.Struct, frozen=True, tag="add_sub_tasks"):
    """All of them or none. Its answer: how many are new.

    tasks  JSON each: a task as a file has it, or `{"spec": …}` with one that was built
    """

    tasks: tuple[msgspec.Raw, ...]


class SubTasks(msgspec.Struct, frozen=True, tag="sub_tasks"):
    """What became of the sub-tasks of a task. Its answer: a page of them, as mappings, in the order of their making.

    after    only those behind the one of this ordinal
    results  false: each has null instead, and none is read
    """

    task: str
    after: int
    limit: int
    results: bool = True


class Nap(msgspec.Struct, frozen=True, tag="nap"):
    """Be told when so much time is over. Its answer: null, then.

    call  which one of this attempt, from 1
    """

    call: int
    span_us: int


Question = AddSubTasks | SubTasks | Nap


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """`value`: JSON. With a `code` it is an error, and `message` says why."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    code: str = ""
    message: str = ""


OnAnswer = Callable[[Answered], object]
OnAsk = Callable[[Question, OnAnswer], object]
"""The engine's side. It answers once, on the loop's thread, or never if the attempt ends before."""

Asker = Callable[[Question], "Future[Any]"]
"""The body's side."""

_ERRORS: Final = {kind.code: kind for kind in (InvalidInput, Conflict, Unavailable)}


def refused(error: BaseException) -> Answered:
    """An error as the body shall see it."""
    kind = next((kind for kind in _ERRORS.values() if isinstance(error, kind)), Unavailable)
    return Answered(code=kind.code, message=str(error))


def settle(future: "Future[Any]", answered: Answered) -> None:
    """Nobody may be waiting any more."""
    with suppress(InvalidStateError):
        if answered.code:
            kind: type[TaskEngineError] = _ERRORS.get(answered.code, Unavailable)
            future.set_exception(kind(answered.message))
        else:
            future.set_result(msgspec.json.decode(answered.value))
