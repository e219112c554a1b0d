"""Settings in environment variables: `TASKENGINE_SECTION__KEY`."""

from collections.abc import Mapping
from typing import Final

from taskengine.config.keys import KEYS, LATER
from taskengine.config.values import Raw, split_list
from taskengine.errors import Problem
from taskengine.model.spelling import nearest, quoted

__all__ = ["read_environment"]

_PREFIX: Final = "TASKENGINE_"
_OTHERS: Final = ("TASKENGINE_SECRET_", "TASKENGINE_TEST_")
"""Secrets are called as users like, and the tests have some of their own."""
_BY_VARIABLE: Final = {key.variable: key for key in KEYS.values()}
_LATER: Final = frozenset("_".join(path).replace("-", "_").upper().removeprefix("TASK_ENGINE_") for path in LATER)


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Raw], list[Problem]]:
    """Raw settings by the name of their key, and what is wrong. Names without `__` are no settings."""
    found: dict[str, Raw] = {}
    problems: list[Problem] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or "__" not in variable or variable.startswith(_OTHERS):
            continue
        key = _BY_VARIABLE.get(variable)
        try:
            if key is None:
                raise ValueError(_unknown(variable))
            found[key.name] = split_list(text) if isinstance(key.default, tuple) else text
        except ValueError as error:
            problems.append(Problem(message=str(error), path=variable))
    return found, problems


def _unknown(variable: str) -> str:
    if variable.removeprefix(_PREFIX).replace("__", "_").startswith(tuple(_LATER)):
        return "this setting is not supported yet; see docs/not-yet.md"
    # Without the prefix: what all names share would make any two of them alike.
    found = nearest(variable.removeprefix(_PREFIX), [name.removeprefix(_PREFIX) for name in _BY_VARIABLE])
    hint = f", did you mean {quoted(_PREFIX + found)}?" if found else "; docs/configuration.md lists them"
    return f"no setting has this variable{hint}"
