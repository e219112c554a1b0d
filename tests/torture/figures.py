"""What the long tests leave for the report: one JSON line for each figure, in the file that the report asks for."""

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "TASKENGINE_TEST_REPORT"


def note(name: str, **figures: object) -> None:
    """Nothing happens unless somebody collects."""
    path = os.environ.get(VARIABLE)
    if path:
        line = json.dumps({"name": name, **figures}, ensure_ascii=False) + "\n"
        with Path(path).open("a", encoding="utf-8") as file:  # short lines, appended: workers may write at once
            file.write(line)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
