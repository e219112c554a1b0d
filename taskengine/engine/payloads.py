"""What somebody sends to a task that waits: does it fit. Pure."""

from typing import Final

import msgspec

from taskengine.errors import InvalidInput
from taskengine.model.params import bind_params
from taskengine.model.shape import json_shape, kind_of, path_text
from taskengine.model.waits import Approval, Wait

__all__ = ["MOST_BYTES", "checked_payload"]

MOST_BYTES: Final = 64 * 1024

_JSON: Final = msgspec.json.Encoder()


def checked_payload(wait: Wait, payload: object) -> bytes:
    """Its JSON. Raises InvalidInput, InvalidParams that say what is wrong with it."""
    faults: list[str] = []
    plain = json_shape(payload, lambda path, message: faults.append(f"{path_text(('payload', *path))}: {message}"))
    if faults:
        raise InvalidInput("; ".join(faults[:5]))
    if wait.approval:
        _must_be_approval(wait, plain)
    elif wait.schema:
        if not isinstance(plain, dict):
            raise InvalidInput(
                f"the payload of {wait.signal!r} is a mapping of {', '.join(wait.schema)}; got {kind_of(plain)}"
            )
        plain = bind_params(wait.schema, plain)
    body = _JSON.encode(plain)
    if len(body) > MOST_BYTES:
        raise InvalidInput(f"the payload has {len(body):,} bytes as JSON; at most {MOST_BYTES:,} are possible")
    return body


def _must_be_approval(wait: Wait, plain: object) -> None:
    try:
        msgspec.convert(plain, Approval)
    except msgspec.ValidationError as error:
        wanted = '{"approved": true} or {"approved": false, "comment": "…"}'
        raise InvalidInput(f"{wait.signal!r} waits for an approval, {wanted}: {error}") from None
