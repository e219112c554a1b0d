"""schemathesis against a server that runs in a thread of this process."""

import subprocess
import sys
from pathlib import Path

from api.apiworld import ApiWorld

# Streams go on for as long as the client likes; they have their own tests.
# That a schema accepts more than a definition or a cursor may be is no fault of the schema.
LEFT_OUT = ("--exclude-operation-id", "event_stream", "--exclude-checks", "positive_data_acceptance")
# Without a token the answer is 401 before it is 405: nobody learns which methods there are.
LEFT_OUT_WITHOUT_TOKEN = (*LEFT_OUT[:-1], "positive_data_acceptance,unsupported_method,allow_header_conformance")


def fuzz(world: ApiWorld, folder: Path, scope: str | None, *options: str, limit_s: float) -> str:
    """Run it with a token of this scope, or without one; the answer is its report, or empty when it found nothing."""
    command = [sys.executable, "-W", "ignore", "-m", "schemathesis.cli", "run"]
    command += [f"http://127.0.0.1:{world.port}/schema/openapi.json", "--request-timeout", "20", "--warnings", "off"]
    command += LEFT_OUT if scope is not None else LEFT_OUT_WITHOUT_TOKEN
    if scope is not None:
        command += ["-H", f"Authorization: Bearer {world.secrets[scope]}"]
    folder.mkdir(exist_ok=True)
    run = subprocess.run(
        [*command, "--continue-on-failure", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    return "" if run.returncode == 0 else run.stdout + run.stderr


def answers(world: ApiWorld) -> dict[tuple[str, str], set[int]]:
    """The statuses that each route has answered, by (method, route)."""
    found: dict[tuple[str, str], set[int]] = {}
    for (name, labels), _ in world.metrics.counted.items():
        if name == "http.requests":
            given = dict(labels)
            found.setdefault((given["method"], given["route"]), set()).add(int(given["status"]))
    return found
