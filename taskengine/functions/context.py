"""What a job function knows of the task it works for, and what it can tell while it runs."""

import asyncio
import traceback
from asyncio import wrap_future
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import msgspec

from taskengine.clock import Clock, Micros
from taskengine.errors import InvalidInput, JobError, NotFound, NotSupportedYet, Unavailable
from taskengine.functions.failures import cut
from taskengine.functions.outcomes import Frame, LogLine, ProgressNote
from taskengine.functions.params import Params
from taskengine.functions.questions import AddSubTasks, Asker, Nap, Question, SubTasks
from taskengine.functions.quota import DEFAULT_LOG_CAP, LogQuota
from taskengine.functions.services import ServiceKey, Services
from taskengine.functions.shared import Shared
from taskengine.functions.sub_tasks import SubTask, sources
from taskengine.model.durations import parse_duration

__all__ = ["BoundLog", "CallInfo", "JobContext", "SyncTaskContext", "TaskContext", "current_context"]

_LATER: Final = frozenset(
    {
        "artifact",
        "checkpoint",
        "emit",
        "last_checkpoint",
    }
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE: Final = 1_000
_MAX_LINE: Final = 64 * 1024
_MOST_NAPS: Final = 1_000
"""Each is a row as long as the instance is kept."""
_JSON: Final = msgspec.json.Decoder()

_current: ContextVar["JobContext | None"] = ContextVar("taskengine_job", default=None)


def current_context() -> "JobContext | None":
    """The context of the job that runs here (task or thread), None outside of a job."""
    return _current.get()


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one attempt hands to its body.

    params       evaluated, of JSON shape
    upstream     task name to the JSON of its result; decoded when asked for
    deadline_us  wall time at which the attempt times out
    """

    instance_id: str
    workflow_id: str
    ordinal: int
    task_name: str
    attempt: int = 1
    run: int = 1
    idempotency_key: str = ""
    deadline_us: Micros | None = None
    params: Mapping[str, Any] = {}
    upstream: Mapping[str, bytes] = {}


class BoundLog:
    """Log lines of one attempt. `log.info("read %d rows", n)` or `log.info("read", rows=n)`; any thread."""

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell

    def debug(self, message: object, /, *values: object, **fields: object) -> None:
        self._tell("debug", _line(message, values, fields))

    def info(self, message: object, /, *values: object, **fields: object) -> None:
        self._tell("info", _line(message, values, fields))

    def warning(self, message: object, /, *values: object, **fields: object) -> None:
        self._tell("warning", _line(message, values, fields))

    def error(self, message: object, /, *values: object, **fields: object) -> None:
        self._tell("error", _line(message, values, fields))

    def exception(self, message: object, /, *values: object, **fields: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._tell("error", f"{_line(message, values, fields)}\n{traceback.format_exc()}")


def _line(message: object, values: tuple[object, ...], fields: dict[str, object]) -> str:
    text = str(message)
    if values:
        try:
            text = text % values
        except (TypeError, ValueError):  # a log line must not fail a job
            text = " ".join([text, *(repr(value) for value in values)])
    return " ".join([text, *(f"{key}={value!r}" for key, value in fields.items())]) if fields else text


class JobContext:
    """Base of both contexts. Made by the caller, one for each attempt; a body may hand it to its own threads.

    clock, grace_s and shared are for the built-in jobs; grace_s is how long something of theirs may take to end,
    shared what they keep between calls, None outside of the loop's thread. begun: the body was entered. log_cap:
    how many lines the attempt may log. asker: takes questions to the engine.
    """

    __slots__ = (
        "_asker",
        "_cancelled",
        "_decoded",
        "_info",
        "_log_cap",
        "_naps",
        "_quota",
        "_services",
        "_sink",
        "_waiting",
        "begun",
        "clock",
        "grace_s",
        "params",
        "shared",
    )

    def __init__(
        self,
        info: CallInfo,
        services: Services,
        clock: Clock,
        sink: Callable[[Frame], None] | None = None,
        grace_s: float = 5.0,
        shared: Shared | None = None,
        log_cap: int = DEFAULT_LOG_CAP,
        asker: Asker | None = None,
    ) -> None:
        self._asker = asker
        self._waiting: set[Future[Any]] = set()
        self._naps = 0
        self._info = info
        self._services = services
        self.clock = clock
        self._sink = sink
        self._cancelled = False
        self._decoded: dict[str, Any] = {}
        self.params = Params(info.params)
        self.grace_s = grace_s
        self.shared = shared
        self.begun = False
        self._log_cap = log_cap
        self._quota: LogQuota | None = None  # most bodies say nothing

    @property
    def task_id(self) -> str:
        """Unique in one database: the instance and the task's number in it."""
        return f"{self._info.instance_id}/{self._info.ordinal}"

    @property
    def task_name(self) -> str:
        return self._info.task_name

    @property
    def instance_id(self) -> str:
        return self._info.instance_id

    @property
    def workflow_id(self) -> str:
        return self._info.workflow_id

    @property
    def attempt(self) -> int:
        """1 for the first; only grows, over retries and runs."""
        return self._info.attempt

    @property
    def run_id(self) -> str:
        """Names this run of the instance; a repair opens the next one."""
        return f"{self._info.instance_id}/{self._info.run}"

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of the task; hand it to services that know such keys."""
        return self._info.idempotency_key

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out, UTC; None without a timeout."""
        at_us = self._info.deadline_us
        return None if at_us is None else _EPOCH + timedelta(microseconds=at_us)

    @property
    def time_left_s(self) -> float | None:
        """Seconds until the deadline, 0 when it has passed; None without a timeout."""
        at_us = self._info.deadline_us
        return None if at_us is None else max(0.0, (at_us - self.clock.now_us()) / 1_000_000)

    def upstream(self, task: str) -> Any:
        """The result of a task that this one comes after, as plain JSON values."""
        if task not in self._decoded:
            if task not in self._info.upstream:
                known = ", ".join(repr(name) for name in self._info.upstream) or "none"
                raise NotFound("upstream task", task, f"with results are: {known}")
            self._decoded[task] = _JSON.decode(self._info.upstream[task])
        return self._decoded[task]

    def upstreams(self) -> dict[str, Any]:
        """Every upstream result by task name."""
        return {task: self.upstream(task) for task in self._info.upstream}

    def upstream_value(self, task: str, field: str) -> Any:
        """One field of an upstream result. Raises JobError when there is no such field."""
        return _field_of(self.upstream(task), field, f"the result of {task!r}")

    def extract(self, task: str, field: str) -> list[Any]:
        """The field of every item of an upstream result that is a list; null items (failures) are left out."""
        result = self.upstream(task)
        if not isinstance(result, list):
            raise JobError(f"the result of {task!r} is {_kind(result)} and no list; use upstream_value")
        where = f"the result of {task!r}"
        return [_field_of(item, field, f"{where}[{at}]") for at, item in enumerate(result) if item is not None]

    def service(self, key: ServiceKey) -> Any:
        """What was registered under the key. Raises JobError that lists the keys there are."""
        return self._services.get(key)

    @property
    def log(self) -> BoundLog:
        """Lines that belong to this attempt."""
        return BoundLog(self.tell)

    def tell(self, level: str, message: str) -> None:
        """One line; what `log` does. A line is cut at 64 KiB; what is beyond the attempt's quota is dropped."""
        sink = self._sink
        if sink is None:
            return
        if self._quota is None:
            self._quota = LogQuota(self._log_cap)
        if self._quota.admit(len(message)):
            sink(LogLine(level, cut(message, _MAX_LINE), self.clock.now_us()))

    def sum_up(self) -> None:
        """The body has ended: a last line says how many were dropped, and nobody listens any more. For the caller."""
        if self._sink is not None and self._quota is not None and (note := self._quota.note()):
            self._sink(LogLine("warning", note, self.clock.now_us()))
        self._sink = self._asker = None

    def set_progress(self, fraction: float, message: str = "") -> None:
        """How far the body is, 0 to 1; what is outside counts as the nearer end."""
        share = float(fraction)
        if share != share:
            raise ValueError("progress is a fraction between 0 and 1, got NaN")
        sink = self._sink
        if sink is not None:
            sink(ProgressNote(min(1.0, max(0.0, share)), cut(message, _MAX_LINE)))

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was asked to end: cancelled, timed out, or the engine stops."""
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Raise CancelledError (a BaseException, so that `except Exception` lets it pass) once `cancelled` is true."""
        if self._cancelled:
            raise asyncio.CancelledError("the attempt was asked to end")

    def mark_cancelled(self) -> None:
        """The caller's side of `cancelled`; any thread. Who waits for an answer waits no longer."""
        self._cancelled = True
        for future in tuple(self._waiting):
            _give_up(future)

    def _ask(self, question: Question) -> "Future[Any]":
        self.raise_if_cancelled()
        if self._asker is None:
            raise Unavailable("nobody answers here: this context belongs to no running task")
        future = self._asker(question)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        if self._cancelled:  # between the look above and now, by another thread
            _give_up(future)
        return future

    def _nap(self, span: float | str | timedelta) -> "Future[Any]":
        """The next one of this attempt. The same order of calls is the same numbers, when the body runs again."""
        try:
            span_us = parse_duration(span)
        except ValueError as error:
            raise InvalidInput(f"ctx.sleep: {error}") from None
        self._naps += 1
        if self._naps > _MOST_NAPS:
            raise InvalidInput(
                f"ctx.sleep: more than {_MOST_NAPS:,} sleeps in one attempt; `asyncio.sleep` and `time.sleep` are not "
                "durable and have no such limit"
            )
        return self._ask(Nap(self._naps, span_us))

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LATER:
            raise NotSupportedYet(f"ctx.{name} is not supported yet; see docs/not-yet.md")
        raise AttributeError(f"{type(self).__name__} has no {name!r}")


class TaskContext(JobContext):
    """The context of an `async def` job."""

    __slots__ = ()

    async def add_sub_tasks(self, tasks: Iterable[object]) -> int:
        """Add tasks under this one: all of them or none, committed when this returns. Gives how many are new.

        They start when this body has succeeded, and what comes after this task waits for all of them. A task is a
        mapping as in a file (`{"name": "a", "job": "load", "params": {...}}`), a `TaskBuilder` or what it builds. It
        may depend on other sub-tasks of this task; its params are data, without expressions. What an attempt adds
        that then fails is taken back; the same task again in one attempt is fine. Raises InvalidInput, Conflict.
        """
        return int(await wrap_future(self._ask(AddSubTasks(sources(tasks)))))

    async def sleep(self, span: float | str | timedelta) -> None:
        """Wait so long, in seconds, as "10m" or as a timedelta. The body keeps its slot; its timeout goes on.

        When it ends is committed before the wait begins: a body that runs again after a crash or an interruption waits
        only for the rest. Its calls are told apart by their number, so they must come in the same order again. An
        attempt after a failure waits anew. For a long wait a task with `sleep` holds no slot. Raises InvalidInput.
        """
        await wrap_future(self._nap(span))

    async def sub_tasks(self, task: str | None = None, *, after: int = -1, limit: int = 1_000) -> list[SubTask]:
        """What became of the sub-tasks of a task before this one, in the order of their making; a page of them.

        task   None: this task itself, as far as it has come
        after  `ordinal` of the last one that was seen
        """
        found = await wrap_future(self._ask(SubTasks(task or "", after, limit)))
        return msgspec.convert(found, list[SubTask])

    async def successful_sub_tasks(self, task: str | None = None) -> list[SubTask]:
        """All that ended as Success. Of many, go through the pages of `sub_tasks` instead."""
        return [each for each in await self._all_sub_tasks(task) if each.status == "Success"]

    async def failed_sub_tasks(self, task: str | None = None) -> list[SubTask]:
        """All that ended in another way and were not skipped."""
        return [each for each in await self._all_sub_tasks(task) if each.failed]

    async def all_sub_tasks_succeeded(self, task: str | None = None) -> bool:
        """Whether each ended as Success or was skipped; true where there are none."""
        return all(each.status in ("Success", "Skipped") for each in await self._all_sub_tasks(task, results=False))

    async def sub_task_count(self, task: str | None = None) -> int:
        return len(await self._all_sub_tasks(task, results=False))

    async def _all_sub_tasks(self, task: str | None, *, results: bool = True) -> list[SubTask]:
        found: list[SubTask] = []
        while page := await wrap_future(self._ask(_page_of(task, found, results))):
            found += msgspec.convert(page, list[SubTask])
        return found


class SyncTaskContext(JobContext):
    """The context of a `def` job: the same names, none of them needs an await."""

    __slots__ = ()

    def add_sub_tasks(self, tasks: Iterable[object]) -> int:
        """As `TaskContext.add_sub_tasks`; waits."""
        return int(self._ask(AddSubTasks(sources(tasks))).result())

    def sleep(self, span: float | str | timedelta) -> None:
        """As `TaskContext.sleep`; waits."""
        self._nap(span).result()

    def sub_tasks(self, task: str | None = None, *, after: int = -1, limit: int = 1_000) -> list[SubTask]:
        """As `TaskContext.sub_tasks`; waits."""
        return msgspec.convert(self._ask(SubTasks(task or "", after, limit)).result(), list[SubTask])

    def successful_sub_tasks(self, task: str | None = None) -> list[SubTask]:
        """As `TaskContext.successful_sub_tasks`; waits."""
        return [each for each in self._all_sub_tasks(task) if each.status == "Success"]

    def failed_sub_tasks(self, task: str | None = None) -> list[SubTask]:
        """As `TaskContext.failed_sub_tasks`; waits."""
        return [each for each in self._all_sub_tasks(task) if each.failed]

    def all_sub_tasks_succeeded(self, task: str | None = None) -> bool:
        """As `TaskContext.all_sub_tasks_succeeded`; waits."""
        return all(each.status in ("Success", "Skipped") for each in self._all_sub_tasks(task, results=False))

    def sub_task_count(self, task: str | None = None) -> int:
        return len(self._all_sub_tasks(task, results=False))

    def _all_sub_tasks(self, task: str | None, *, results: bool = True) -> list[SubTask]:
        found: list[SubTask] = []
        while page := self._ask(_page_of(task, found, results)).result():
            found += msgspec.convert(page, list[SubTask])
        return found


def activate(context: JobContext) -> None:
    """Make it what `current_context` gives, here and in what is started from here."""
    _current.set(context)


def _page_of(task: str | None, found: list[SubTask], results: bool) -> SubTasks:
    """The next one."""
    return SubTasks(task or "", found[-1].ordinal if found else -1, _PAGE, results)


def _give_up(future: "Future[Any]") -> None:
    with suppress(InvalidStateError):  # it has been answered meanwhile
        future.set_exception(asyncio.CancelledError("the attempt was asked to end"))


def _field_of(value: Any, field: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise JobError(f"{where} is {_kind(value)} and no mapping; it has no field {field!r}")
    if field not in value:
        raise JobError(f"{where} has no field {field!r}; it has: {', '.join(map(repr, value)) or 'none'}")
    return value[field]


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
