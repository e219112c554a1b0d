"""What the times that a run recorded say: did it end well, was every dependency respected, how long did it take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from examples.wfformat.conversion import task_names
from examples.wfformat.trace import Trace

__all__ = ["Verdict", "judge"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """seconds  from the first start to the last end of a task, as recorded; 0 for a trace without tasks
    faults   sentences, in file order; empty when all is well
    """

    status: str
    seconds: float
    faults: Sequence[str]


def judge(trace: Trace, instance: Record) -> Verdict:
    """Compares the trace with the instance that `taskengine run --json` printed."""
    records = {record["name"]: record for record in instance["tasks"]}
    status = instance["status"]
    faults = [] if status == "Success" else [f"the instance ended {status}"]
    faults += _faults(trace, records)
    begun = [_instant(record["started_at"]) for record in records.values() if record["started_at"]]
    ended = [_instant(record["finished_at"]) for record in records.values() if record["finished_at"]]
    seconds = (max(ended) - min(begun)).total_seconds() if begun and ended else 0.0
    return Verdict(status, seconds, faults)


def _faults(trace: Trace, records: Mapping[str, Record]) -> Iterator[str]:
    names = task_names(trace)
    for stranger in sorted(records.keys() - set(names.values())):
        yield f"{stranger} is not in the trace"
    for step in trace.steps:
        record = records.get(names[step.id])
        if record is None:
            yield f"{names[step.id]} is not in the instance"
        elif record["status"] != "Success":
            yield f"{record['name']} ended {record['status']}"
        else:
            parents = (records.get(names[parent]) for parent in step.parents)
            yield from _too_early(record, [parent for parent in parents if parent])


def _too_early(record: Record, parents: Sequence[Record]) -> Iterator[str]:
    started = _instant(record["started_at"])
    for parent in parents:
        if parent["finished_at"] is None or started < _instant(parent["finished_at"]):
            yield f"{record['name']} started before {parent['name']} had finished"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
