"""`${ENV:NAME}` and `${ENV:NAME:default}` in a text: what need not be written down, such as a password."""

import re
from collections.abc import Mapping
from typing import Final

from taskengine.model.spelling import quoted

__all__ = ["resolved"]

_REFERENCE: Final = re.compile(r"(?P<escape>\$)?\$\{ENV:(?P<name>[^:}]*)(?::(?P<default>[^}]*))?\}")


def resolved(text: str, environ: Mapping[str, str]) -> tuple[str, bool]:
    """The text with its references replaced, and whether there was one; `$${ENV:` stands for itself.

    Raises ValueError for a variable that is not there and has no default.
    """
    referred = False

    def replace(match: re.Match[str]) -> str:
        nonlocal referred
        if match["escape"]:
            return match[0][1:]
        referred = True
        found = environ.get(match["name"], match["default"])
        if found is None:
            raise ValueError(
                f"the environment has no variable {quoted(match['name'])}; "
                f"set it, or give a default: ${{ENV:{match['name']}:default}}"
            )
        return found

    return _REFERENCE.sub(replace, text), referred
