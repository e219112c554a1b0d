"""What both clients have in common: how a described verb becomes a method."""

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from taskengine.client.asking import Asking
from taskengine.client.pace import Pace, Patience
from taskengine.client.target import find_target
from taskengine.client.wiring import Wiring

__all__ = ["as_each", "as_method", "first_page", "next_page", "prepare"]

F = TypeVar("F", bound=Callable[..., Any])


def as_method(description: Callable[..., Any], method: F) -> F:
    """`method` under the name and the text of what it carries out, so that `help()` and notebooks show it."""
    signature = inspect.signature(description)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__name__, method.__doc__ = description.__name__, description.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    return method


def as_each(description: Callable[..., Any], method: F) -> F:
    """The same for a method that goes through the pages of `description`."""
    named = as_method(description, method)
    named.__name__ = f"iter_{description.__name__}"
    found = f"Everything that `{description.__name__}` finds, page after page."
    named.__doc__ = f"{found} `limit` is the size of a page, 100 unless said."
    return named


def first_page(filters: Mapping[str, Any]) -> dict[str, Any]:
    """What to ask first; pages are as large as a server gives them unless somebody wants smaller ones."""
    return {"limit": 100, **filters}


def next_page(filters: Mapping[str, Any], cursor: str | None) -> dict[str, Any]:
    """What to ask next. An offset counted for the first page, and the cursor is behind it."""
    return {**filters, "offset": 0, "cursor": cursor}


def prepare(
    server: str | None,
    token: str | None,
    token_file: str | Path | None,
    *,
    patience: Patience | None,
    ca_file: str | Path | None,
    allow_plain_http: bool,
    pace: Pace | None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Asking, Wiring, Pace]:
    """What a client is made of. Raises ServerUnreachable, InvalidConfiguration."""
    patience, pace = patience or Patience(), pace or Pace()
    environ = os.environ if environ is None else environ
    target = find_target(server, token, token_file, environ, allow_plain_http=allow_plain_http)
    authority = None if ca_file is None else Path(ca_file).expanduser()
    return Asking(target, patience, pace), Wiring(target.address, patience, authority), pace
