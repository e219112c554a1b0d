"""`python -m examples.wfformat FILE.json`: a recorded scientific workflow as YAML, or run and measured."""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.program import taskengine_program
from examples.wfformat.conversion import Body, as_yaml
from examples.wfformat.schedule import ideal_seconds
from examples.wfformat.trace import NotATrace, Trace, read_trace
from examples.wfformat.verdict import Verdict, judge

JOBS = Path(__file__).with_name("jobs.py")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all well, 1 the run was not right, 2 the file is not WfFormat, else the program's."""
    options = _parser().parse_args(arguments)
    try:
        trace = read_trace(options.file).scaled(options.scale)
    except NotATrace as fault:
        print(fault, file=sys.stderr)
        return 2
    text = as_yaml(trace, options.body)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    elif not options.run:
        sys.stdout.write(text)
    return _run(trace, text, options.body, options.workers) if options.run else _validate(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.wfformat", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.json", help="an execution in WfFormat")
    parser.add_argument("--scale", type=_factor, default=0.001, help="what runtimes are multiplied by (0.001)")
    parser.add_argument("--body", type=Body, choices=tuple(Body), default=Body.HOLD, help=_BODY_HELP)
    parser.add_argument("--out", type=Path, metavar="FILE.yaml", help="where the workflow goes (standard output)")
    parser.add_argument("--run", action="store_true", help="run it and compare the times with list scheduling")
    parser.add_argument("-j", "--workers", type=_count, default=20, help="workers of the run (20)")
    return parser


_BODY_HELP = "hold: a task occupies a worker for its time (default); wait: it is a durable sleep"


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
