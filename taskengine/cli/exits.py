"""Exit codes, written once. Scripts rely on them: a number never changes its meaning."""

from collections.abc import Mapping
from typing import Final

__all__ = [
    "BROKEN_PIPE",
    "BY_STATE",
    "CANCELLED",
    "COMPENSATED",
    "COMPENSATION_FAILED",
    "CONFLICT",
    "ERROR",
    "FAILED",
    "INTERRUPTED",
    "INVALID_DEFINITION",
    "NOT_ALLOWED",
    "NOT_FOUND",
    "OK",
    "TIMED_OUT",
    "UNREACHABLE",
    "USAGE",
]

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
INVALID_DEFINITION: Final = 4
CONFLICT: Final = 5
UNREACHABLE: Final = 6
NOT_ALLOWED: Final = 7
TIMED_OUT: Final = 8
FAILED: Final = 9
CANCELLED: Final = 10
COMPENSATED: Final = 11
COMPENSATION_FAILED: Final = 12
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
"""What a shell sees of a program that wrote into a closed pipe."""

# Keys are the public spellings of InstanceState, a StrEnum: a state finds itself here.
BY_STATE: Final[Mapping[str, int]] = {
    "Success": OK,
    "Failed": FAILED,
    "TimedOut": FAILED,
    "Quarantined": FAILED,
    "Cancelled": CANCELLED,
    "Compensated": COMPENSATED,
    "CompensationFailed": COMPENSATION_FAILED,
}
"""How a command that waits for an instance ends. A state that is not here is no end: the command is simply done."""
