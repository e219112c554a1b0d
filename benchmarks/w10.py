"""W10, growth: what people look at and start, on a store with a million ended instances against an empty one.

Each ended instance has a task and two events beside its row; the rows are made by the database itself. Both stores are
asked in turns, through an engine each, in one process.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from typing import Any, Final

from benchmarks import w1
from benchmarks.figures import Figure, Outcome, Settings
from benchmarks.grounds import ask, database
from benchmarks.rig import engine_on, scratch, tune
from taskengine.engine.engine import Engine
from taskengine.model.ids import InstanceId, WorkflowId
from taskengine.model.states import InstanceState
from taskengine.store.interface import InstanceQuery

__all__ = ["fill", "run"]

BAR: Final = 1.3
_DIGITS: Final = " UNION ALL ".join(f"SELECT {n} AS n" for n in range(10))
_BORN_US: Final = 1_700_000_000_000_000
_CHUNK: Final = 100_000
_FEW: Final = 60

Question = Callable[[Engine], Awaitable[object]]


def fill(dsn: str, version: str, count: int, failures: int) -> None:
    """Ended instances of the workflow `chain`, so many of them Failed."""
    for first in range(0, count, _CHUNK):
        for statement in _filling(dsn, version, first, min(count, first + _CHUNK), count // failures):
            ask(dsn, statement)
    if dsn.startswith("postgresql:"):
        ask(dsn, "VACUUM ANALYZE instances")
    elif dsn.startswith("mysql:"):
        ask(dsn, "ANALYZE TABLE instances")


def _filling(dsn: str, version: str, first: int, end: int, every: int) -> list[str]:
    text = "printf('01800000-0000-7000-8000-%012d', n)" if "://" not in dsn else _server_id(dsn)
    places = [f"(SELECT {'+'.join(f'd{p}.n*{10**p}' for p in range(5))} AS n FROM"]
    numbers = f"{places[0]} {', '.join(f'({_DIGITS}) AS d{p}' for p in range(5))}) AS low"
    each = f"FROM (SELECT low.n + {first} AS n FROM {numbers}) AS numbers WHERE n < {end}"
    state = f"CASE WHEN n % {every} = 0 THEN 'Failed' ELSE 'Success' END"
    verdict = f"CASE WHEN n % {every} = 0 THEN 'failed' ELSE 'success' END"
    body = '{"state":"Success","transitions":[[0,"step-0","succeed","Success",1,""]],"progress":[3,0,0,0,0,0,0]}'
    at = f"{_BORN_US} + n * 1000"
    instance = f"{text}, 'chain', '{version}', '{{}}', {at}, NULL, {state}, 1, 'end', '', {verdict}, {state}, 0, 0"
    columns = "id, workflow_id, version, params, created_us, idempotency_key, state, run, phase, hold, verdict, final"
    more = "compensate_asked, hard, deadline_us, deadline_left_us, started_us, finished_us, error"
    task = "instance_id, ordinal, name, state, attempt, tries, parent, added_by, begun, park, {}, body_seq, losses"
    key = '"key"' if "://" not in dsn or dsn.startswith("postgresql:") else "`key`"
    return [
        f"INSERT INTO instances ({columns}, {more}) SELECT {instance}, NULL, NULL, {at}, {at} + 5000, '' {each}",
        f"INSERT INTO tasks ({task.format(key)}, suspect, reason, result) "
        f"SELECT {text}, 0, 'step-0', 'Success', 1, 0, -1, 0, 1, '', '', 1, 0, 0, '', '1' {each}",
        *(
            f"INSERT INTO events (instance_id, seq, at_us, body) SELECT {text}, {n}, {at}, '{body}' {each}"
            for n in (1, 2)
        ),
    ]


def _server_id(dsn: str) -> str:
    digits = "lpad(n::text, 12, '0')" if dsn.startswith("postgresql:") else "lpad(n, 12, '0')"
    return f"concat('01800000-0000-7000-8000-', {digits})"


def _questions(count: int) -> Mapping[str, Question]:
    middle = (_BORN_US + count // 2 * 1000, InstanceId("01800000-0000-7000-8000-500000000000"))
    failed = frozenset({InstanceState.FAILED})
    chain = WorkflowId("chain")
    definition = w1.chain(w1.STEPS, "add-one", "x")
    return {
        "history page": lambda engine: engine.get_workflow_history("chain"),
        "history page of failures": lambda engine: engine.get_workflow_history("chain", status=InstanceState.FAILED),
        "history page from the middle": lambda engine: engine.list_instances(
            InstanceQuery(workflow_id=chain), after=middle
        ),
        "instance list": lambda engine: engine.list_instances(),
        "instance list of a state": lambda engine: engine.list_instances(InstanceQuery(states=failed)),
        "start": lambda engine: engine.execute_workflow(definition, {"start": 1}),
    }


async def _measure(empty: Engine, full: Engine, counts: tuple[int, int], samples: int) -> dict[str, list[float]]:
    """Milliseconds on the empty and on the full store, as ratios of medians for each question, one a run."""
    found: dict[str, list[float]] = {}
    questions = [_questions(count) for count in counts]
    for name in questions[0]:
        times: dict[int, list[float]] = {0: [], 1: []}
        for n in range(-5, samples):
            for which, engine in enumerate((empty, full)):
                began_s = time.perf_counter()
                await questions[which][name](engine)
                if n >= 0:
                    times[which].append((time.perf_counter() - began_s) * 1e3)
        found[name] = [median(times[0]), median(times[1])]
    return found


async def _ground(dsn: str) -> str:
    """The tables, and the workflow; gives its version."""
    async with engine_on(dsn) as engine:
        return str((await engine.register_workflow(w1.chain(w1.STEPS, "add-one", "x"))).version)


async def _both(one: str, other: str, settings: Settings, counts: tuple[int, int]) -> list[dict[str, list[float]]]:
    samples = 5 if settings.small else 200
    async with engine_on(one) as empty, engine_on(other) as full:
        return [await _measure(empty, full, counts, samples) for _ in range(settings.runs)]


def run(settings: Settings) -> Outcome:
    """Ratios of the medians, full store over empty one."""
    count = 2000 if settings.small else 1_000_000
    tune()
    with (
        scratch() as folder,
        database(settings.store, folder, "empty") as one,
        database(settings.store, folder, "full") as other,
    ):
        fill(one, asyncio.run(_ground(one)), _FEW, _FEW // 2)  # "empty" has a page of each kind to show, and no more
        version = asyncio.run(_ground(other))
        began_s = time.perf_counter()
        fill(other, version, count, count // 100)
        filled_s = time.perf_counter() - began_s
        runs = asyncio.run(_both(one, other, settings, (_FEW, count)))
    figures: list[Figure] = []
    for name in runs[0]:
        figures.append(Figure(name=f"{name}, empty", unit="ms", samples=[run[name][0] for run in runs]))
        ratios: Any = [run[name][1] / run[name][0] for run in runs]
        figures.append(Figure(name="… full over empty", unit="", samples=ratios, at_most=BAR))
    return Outcome(workload="w10", figures=figures, facts={"ended instances": count, "seconds to fill": filled_s})
