"""What a server says on the terminal when it begins to listen."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from taskengine.version import VERSION

__all__ = ["greeting"]

_EXAMPLE: Final = r"id: hello\ntasks:\n  - {name: greet, job: log, params: {message: Hello}}\n"


def greeting(address: str, token: Path, store: str, *, program: str, first: bool, alone: bool) -> Sequence[str]:
    """The lines, for a person.

    program  how this program is called, as one types it
    first    its token was made just now: say how to go on
    alone    no other server of this user runs, so commands find this one by themselves
    """
    lines = [f"taskengine {VERSION} serves {address}", f"Database {store}; token in {token}"]
    if not first:
        return lines
    target = "" if alone else f" --server {address} --token-file {shlex.quote(str(token))}"
    newest = f"{program} instance list --limit 1 -o id{target}"
    return [
        *lines,
        "Commands of this user on this machine find the token there. Try in another terminal:",
        f"  printf '{_EXAMPLE}' | {program} workflow upload -{target}",
        f"  {program} workflow execute hello{target}",
        f"  {program} instance watch $({newest}){target}",
    ]
