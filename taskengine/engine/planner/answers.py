"""What those hear who have asked something of an instance, and how it is remembered."""

from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.model.states import InstanceState

__all__ = ["Answer", "Refused", "decode_answer", "encode_answer"]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command comes back with. `error` is empty when it was accepted.

    changed  False: it was so already
    added    tasks that are new
    due_us   when a body that sleeps goes on
    """

    state: InstanceState
    error: str = ""
    code: str = ""
    changed: bool = True
    added: int = 0
    due_us: Micros | None = None


class Refused(Exception):
    """It was not carried out, and has left nothing behind. `code` as an Answer has it; the text is for who asked."""

    def __init__(self, message: str, code: str = "conflict") -> None:
        super().__init__(message)
        self.code = code


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Answer)


def encode_answer(answer: Answer) -> bytes:
    """As the row of a command holds it."""
    return _ENCODER.encode(answer)


def decode_answer(kept: bytes) -> Answer:
    return _DECODER.decode(kept)
