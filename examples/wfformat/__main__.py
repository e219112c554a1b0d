"""`python -m examples.wfformat FILE.json`: a recorded scientific workflow as YAML, or run and measured."""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.wfformat.conversion import Body, as_yaml
from examples.wfformat.schedule import ideal_seconds, least_seconds
from examples.wfformat.trace import NotATrace, Trace, read_trace
from examples.wfformat.verdict import Verdict, judge
from taskengine import read_yaml
from taskengine.errors import InvalidDefinition

JOBS = Path(__file__).with_name("jobs.py")
BODY_HELP = "hold: a task occupies a worker for its time (default); wait: it is a durable sleep"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all well, 1 the run was not right, 2 the file is no legal trace, else the program's."""
    options = _parser().parse_args(arguments)
    try:
        trace = read_trace(options.file).scaled(options.scale)
        text = as_yaml(trace, options.body)
        read_yaml(text)
    except NotATrace as fault:
        print(fault, file=sys.stderr)
        return 2
    except InvalidDefinition as fault:
        print(f"{options.file}: gives no legal workflow\n{fault}", file=sys.stderr)
        return 2
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    elif not options.run:
        sys.stdout.write(text)
    return _run_and_judge(trace, text, options) if options.run else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.wfformat", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.json", help="an execution in WfFormat")
    parser.add_argument("--scale", type=_factor, default=0.001, help="what runtimes are multiplied by (0.001)")
    parser.add_argument("--body", type=Body, choices=tuple(Body), default=Body.HOLD, help=BODY_HELP)
    parser.add_argument("--out", type=Path, metavar="FILE.yaml", help="where the workflow goes (standard output)")
    parser.add_argument("--run", action="store_true", help="run it and compare the times with list scheduling")
    parser.add_argument("-j", "--workers", type=_count, default=20, help="workers of the run (20)")
    return parser


def _factor(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError("a number from 0 up is expected")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least one worker is needed")
    return value


def _run_and_judge(trace: Trace, text: str, options: argparse.Namespace) -> int:
    process = _run(text, options)
    if not process.stdout:
        return process.returncode
    verdict = judge(trace, json.loads(process.stdout))
    print(_summary(trace, verdict, options))
    for fault in verdict.faults:
        print(fault, file=sys.stderr)
    return 1 if verdict.faults else process.returncode


def _run(text: str, options: argparse.Namespace) -> "subprocess.CompletedProcess[bytes]":
    """Progress goes to our standard error; the instance comes back as JSON."""
    with tempfile.TemporaryDirectory(prefix="taskengine-wfformat-") as folder:
        workflow = Path(folder) / "workflow.yaml"
        workflow.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "taskengine", "run", str(workflow), "-j", str(options.workers), "--json"]
        if options.body is Body.HOLD:
            command += ["--app", str(JOBS)]
        return subprocess.run(command, stdout=subprocess.PIPE, check=False)


def _summary(trace: Trace, verdict: Verdict, options: argparse.Namespace) -> str:
    # A durable wait occupies no worker, so only the critical path bounds it.
    workers = options.workers if options.body is Body.HOLD else None
    ideal = ideal_seconds(trace, workers)
    ratio = f"{verdict.seconds / ideal:.3f}" if ideal else "-"
    lines = {
        "trace": trace.name,
        "tasks": f"{len(trace.steps):,}",
        "edges": f"{trace.edges:,}",
        "status": verdict.status,
        "makespan": f"{verdict.seconds:.3f} s",
        "ideal": f"{ideal:.3f} s ({f'list scheduling on {workers} workers' if workers else 'critical path'})",
        "ratio": ratio,
        "least": f"{least_seconds(trace, workers):.3f} s (no schedule is shorter)",
        "faults": f"{len(verdict.faults):,}" if verdict.faults else "none, every dependency was respected",
    }
    return "\n".join(f"{key:<10}{value}" for key, value in lines.items())


if __name__ == "__main__":
    sys.exit(main())
