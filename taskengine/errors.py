"""The error tree. Every class has a stable `code`; callers switch on it, never on the text.

    TaskEngineError
      InvalidInput
        InvalidDefinition      every problem of a definition, with positions
        InvalidParams          params that do not fit what the workflow declares
        InvalidExpression      an expression that cannot be compiled
        InvalidConfiguration   a setting or command-line value
        NotSupportedYet        a feature that a later release brings
      NotFound                 no such workflow, instance, task, function
      Conflict                 the state does not allow it, or a key was used for something else
        IllegalMove            the table has no edge for this move
        DuplicateKey           the idempotency key has made another instance already
      StoreError
        StoreLocked            another process owns the file
        StoreCorrupt           rows that contradict each other
        SchemaTooNew           an older program met a newer database
        SchemaTooOld           a database that is only to be read lacks steps of the schema
        MoveUnfinished         a move has not finished filling this database
        CommitFailed           the decision was not saved; safe to repeat with the same key
        LostInstance           a row was not where its owner left it
        BatchRefused           the store's answer to a batch that cannot be applied; never leaves the checkpointer
        StoreUnavailable       the database is busy or gone; the same again later may succeed
          StoreFull            its disk is full: nothing is lost, and it goes on when there is room
      Unavailable              the engine is stopping or not started; try again
      ServerUnreachable        a client's request found no server, or not one of ours
      NotAllowed               the server wants a token, or one that allows more
      TooManyRequests          asked too often; the same again later may succeed
      ActorDead                a message for an actor that has stopped
      RestartsExhausted        a child failed more often than its supervisor allows
      JobError
        NonRetryable           raised by a job: no more attempts
        RetryAfter             raised by a job: the next attempt not before the delay
        UnknownFunction        no job function of that name
        UnknownPool            no pool of that name
        BadArguments           params do not bind to the function
        BadResult              a result that has no JSON form, or is too large
        EvaluationFailed       an expression that failed when it was evaluated
        WorkerDied             the process that ran the body ended
      WaitTimeout              the wait ended before what was waited for

Constructor arguments equal `args`, so an error survives pickling. No HTTP here: the API maps codes to status.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec

__all__ = [
    "ActorDead",
    "BadArguments",
    "BadResult",
    "BatchRefused",
    "CommitFailed",
    "Conflict",
    "DuplicateKey",
    "EvaluationFailed",
    "IllegalMove",
    "InvalidConfiguration",
    "InvalidDefinition",
    "InvalidExpression",
    "InvalidInput",
    "InvalidParams",
    "JobError",
    "LostInstance",
    "MoveUnfinished",
    "NonRetryable",
    "NotAllowed",
    "NotFound",
    "NotSupportedYet",
    "Problem",
    "RestartsExhausted",
    "RetryAfter",
    "SchemaTooNew",
    "SchemaTooOld",
    "ServerUnreachable",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreUnavailable",
    "TaskEngineError",
    "TooManyRequests",
    "Unavailable",
    "UnknownFunction",
    "UnknownPool",
    "WaitTimeout",
    "WorkerDied",
]


class TaskEngineError(Exception):
    """Root of everything that the engine raises on purpose."""

    code: ClassVar[str] = "error"


class InvalidInput(TaskEngineError):
    """What was handed in is wrong; handing it in again changes nothing."""

    code = "invalid_input"


class Problem(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that is wrong with a definition, and where.

    line and column count from 1; 0 where the definition did not come from a file.
    path    the keys that lead to it, e.g. `tasks[2].retry.count`
    excerpt the offending line without its line end; empty without a file
    """

    message: str
    path: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.path
        head = f"{where}: {self.message}" if where else self.message
        if not self.excerpt:
            return head
        return f"{head}\n    {self.excerpt}\n    {' ' * (self.column - 1)}^"


class InvalidDefinition(InvalidInput):
    """All problems of a definition at once."""

    code = "invalid_definition"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class InvalidParams(InvalidInput):
    code = "invalid_params"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def _expression(source: str) -> str:
    """A text with an expression, or a bare one, as a message shows it."""
    short = source if len(source) <= 200 else source[:200] + "…"
    return short if "${{" in source else f"${{{{ {short.strip()} }}}}"


class InvalidExpression(InvalidInput):
    """`offset` counts characters from the start of `source`; the fault is at or before it."""

    code = "invalid_expression"

    def __init__(self, source: str, reason: str, offset: int = 0) -> None:
        super().__init__(source, reason, offset)
        self.source, self.reason, self.offset = source, reason, offset

    def __str__(self) -> str:
        return f"expression {_expression(self.source)}: {self.reason}"


class InvalidConfiguration(InvalidInput):
    code = "invalid_configuration"


class NotSupportedYet(InvalidInput):
    code = "not_supported_yet"


class NotFound(TaskEngineError):
    code = "not_found"

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(kind, name, hint)
        self.kind, self.name, self.hint = kind, name, hint

    def __str__(self) -> str:
        return f"no {self.kind} {self.name!r}" + (f"; {self.hint}" if self.hint else "")


class Conflict(TaskEngineError):
    code = "conflict"


class IllegalMove(Conflict):
    """The table has no edge for this move. A bug, or a message that arrived late."""

    code = "illegal_move"

    def __init__(self, kind: str, state: str, move: str) -> None:
        super().__init__(kind, state, move)
        self.kind, self.state, self.move = kind, state, move

    def __str__(self) -> str:
        return f"{self.kind}: no move {self.move} from {self.state}"


class DuplicateKey(Conflict):
    """Another instance of this workflow was started with this idempotency key; nothing was saved."""

    code = "duplicate_key"

    def __init__(self, workflow_id: str, key: str) -> None:
        super().__init__(workflow_id, key)
        self.workflow_id, self.key = workflow_id, key

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: the idempotency key {self.key!r} belongs to another instance"


class StoreError(TaskEngineError):
    code = "store_error"


class StoreLocked(StoreError):
    """`holder` says who has it, as its lock file tells: pid, address."""

    code = "store_locked"

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(path, holder)
        self.path, self.holder = path, holder

    def __str__(self) -> str:
        return f"{self.path} is in use by another process ({self.holder}); one process owns a database"


class StoreCorrupt(StoreError):
    code = "store_corrupt"


class SchemaTooNew(StoreError):
    code = "schema_too_new"

    def __init__(self, found: int, known: int) -> None:
        super().__init__(found, known)
        self.found, self.known = found, known

    def __str__(self) -> str:
        return f"the database has schema {self.found}, this program knows up to {self.known}; use the newer program"


class SchemaTooOld(StoreError):
    """Reading changes nothing, also not the schema."""

    code = "schema_too_old"

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(path, found, known)
        self.path, self.found, self.known = path, found, known

    def __str__(self) -> str:
        return (
            f"{self.path} has schema {self.found} and this program reads {self.known}; "
            "`taskengine db migrate --db DSN` brings it there"
        )


class MoveUnfinished(StoreError):
    """What is in this database is a part of what is in `source`."""

    code = "move_unfinished"

    def __init__(self, path: str, source: str) -> None:
        super().__init__(path, source)
        self.path, self.source = path, source

    def __str__(self) -> str:
        return (
            f"{self.path} was not filled to its end from {self.source}; "
            "`taskengine db move FROM TO --resume` goes on with it"
        )


class CommitFailed(StoreError):
    code = "commit_failed"


class LostInstance(CommitFailed):
    """A row or an event was not where its only writer left it: somebody else owns the instance now."""

    code = "lost_instance"


class BatchRefused(StoreError):
    """Nothing of the batch was applied and the same batch will be refused again.

    table   where the first refused row was going
    reason  `moved`: a row was not where it was expected; `exists`: a new row was there already;
            `key`: an idempotency key is taken; `unfit`: a value that the database cannot hold
    """

    code = "batch_refused"

    def __init__(self, table: str, reason: Literal["moved", "exists", "key", "unfit"], detail: str = "") -> None:
        super().__init__(table, reason, detail)
        self.table, self.reason, self.detail = table, reason, detail

    def __str__(self) -> str:
        return f"a row of {self.table} was refused: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class StoreUnavailable(StoreError):
    """Busy, or the connection is gone. Whether a batch was applied is unknown: send the same one again."""

    code = "store_unavailable"


class StoreFull(StoreUnavailable):
    """The disk of the database is full. What is there can be read; what comes waits for room."""

    code = "store_full"


class Unavailable(TaskEngineError):
    code = "unavailable"


class ServerUnreachable(TaskEngineError):
    """No taskengine server answered at `address`, empty where none is known. `reason` ends with what to do."""

    code = "server_unreachable"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address, self.reason = address, reason

    def __str__(self) -> str:
        return f"{self.address}: {self.reason}" if self.address else self.reason


class NotAllowed(TaskEngineError):
    """Who asks is unknown (no token, a wrong or an old one) or may not do this."""

    code = "not_allowed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class TooManyRequests(TaskEngineError):
    """Nothing was done. `retry_after_s` is how long the server wants to be left alone."""

    code = "too_many_requests"

    def __init__(self, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(detail, retry_after_s)
        self.detail, self.retry_after_s = detail, float(retry_after_s)

    def __str__(self) -> str:
        return self.detail


class ActorDead(TaskEngineError):
    code = "actor_dead"


class RestartsExhausted(TaskEngineError):
    """Its supervisor gives up; what killed the child the last time is the cause."""

    code = "restarts_exhausted"

    def __init__(self, child: str) -> None:
        super().__init__(child)
        self.child = child

    def __str__(self) -> str:
        return f"{self.child} failed too often"


class JobError(TaskEngineError):
    """An attempt failed. What a job raises by itself need not be of this tree."""

    code = "job_error"


class NonRetryable(JobError):
    """Raise it in a job to skip the remaining retries."""

    code = "non_retryable"


class RetryAfter(JobError):
    """Raise it in a job to set the delay before its next attempt, in seconds."""

    code = "retry_after"

    def __init__(self, delay_s: float, message: str = "") -> None:
        super().__init__(delay_s, message)
        self.delay_s, self.message = float(delay_s), message

    def __str__(self) -> str:
        return self.message or f"try again in {self.delay_s:g} s"


class UnknownFunction(JobError):
    code = "unknown_function"


class UnknownPool(JobError):
    code = "unknown_pool"


class BadArguments(JobError):
    code = "bad_arguments"


class BadResult(JobError):
    code = "bad_result"


class EvaluationFailed(JobError):
    code = "evaluation_failed"

    def __init__(self, source: str, reason: str, where: str = "") -> None:
        super().__init__(source, reason, where)
        self.source, self.reason, self.where = source, reason, where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{_expression(self.source)}: {self.reason}"


class WorkerDied(JobError):
    code = "worker_died"


class WaitTimeout(TaskEngineError):
    code = "wait_timeout"
