"""`python -m examples.demo` (or `make demo`): a data service on a free port, and a run that works with it.

Options are handed on to `taskengine run`: try `-p dropped_limit=5`, or `--follow`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from examples.demo.exchange import running_exchange
from examples.demo.market import holdings_csv

HERE = Path(__file__).parent
INTERRUPTED = 130


def main() -> int:
    """Returns the exit code of `taskengine run`."""
    with tempfile.TemporaryDirectory(prefix="taskengine-demo-") as folder, running_exchange() as service:
        (Path(folder) / "holdings.csv").write_text(holdings_csv(), encoding="utf-8")
        report = Path(folder) / "report.txt"
        code = _run(service, Path(folder), report)
        if code == 0:
            print(f"\n{report.read_text(encoding='utf-8')}", end="", flush=True)
    if code == INTERRUPTED:
        print("The data service has ended, too: start the demo again instead of resuming it.", file=sys.stderr)
    return code


def _run(service: str, folder: Path, report: Path) -> int:
    params = {
        "service": service,
        "input": folder,
        "output": report,
        "report": HERE / "report.py",
        "python": sys.executable,
    }
    options = [option for name, value in params.items() for option in ("-p", f"{name}={value}")]
    command = [sys.executable, "-m", "taskengine", "run", str(HERE / "quotes.yaml"), *options, *sys.argv[1:]]
    print(f"$ taskengine run examples/demo/quotes.yaml -p service={service} …", file=sys.stderr, flush=True)
    # The result on its standard output is that of the last step, which only cleans up; the report is ours to show.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The program was interrupted, too: it drains, says how to go on, and ends by itself.
            return process.wait()


if __name__ == "__main__":
    sys.exit(main())
