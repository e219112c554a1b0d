"""Reading a definition in a process of its own: `python -m taskengine.definition.apart`, one text for each process.

The request comes in on standard input, the answer goes out on standard output, both as JSON. Whoever started the
process may end it at any time; it touches nothing.
"""

import signal
import sys
from typing import Final, Literal

import msgspec

from taskengine.definition.reader import read_json, read_yaml
from taskengine.errors import InvalidDefinition, Problem
from taskengine.model.definition import WorkflowDefinition, canonical_form, decode_canonical

__all__ = ["Request", "answer", "decode_answer", "encode_request"]

_ENCODER: Final = msgspec.json.Encoder()


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A text to read. `jobs`, `pools`: the names that a job and a pool may have; no pools: any."""

    text: bytes
    form: Literal["yaml", "json"]
    jobs: list[str]
    limit_bytes: int
    pools: list[str] | None = None


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Either the canonical form, or what is wrong."""

    canonical: bytes = b""
    problems: list[Problem] = []


_REQUEST: Final = msgspec.json.Decoder(Request)
_ANSWER: Final = msgspec.json.Decoder(_Answer)


def encode_request(request: Request) -> bytes:
    return _ENCODER.encode(request)


def answer(request: bytes) -> bytes:
    """What the process says to a request."""
    asked = _REQUEST.decode(request)
    read = read_json if asked.form == "json" else read_yaml
    try:
        definition = read(asked.text, jobs=asked.jobs, pools=asked.pools, limit_bytes=asked.limit_bytes)
    except InvalidDefinition as error:
        return _ENCODER.encode(_Answer(problems=list(error.problems)))
    return _ENCODER.encode(_Answer(canonical=canonical_form(definition)))


def decode_answer(answer: bytes) -> WorkflowDefinition:
    """The definition. Raises InvalidDefinition; msgspec.DecodeError when the process was cut off."""
    told = _ANSWER.decode(answer)
    if told.problems:
        raise InvalidDefinition(told.problems)
    return decode_canonical(told.canonical)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the server's to answer
    sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))


if __name__ == "__main__":
    _main()
