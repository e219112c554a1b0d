"""Which job functions there are, and where they came from."""

import difflib
import hashlib
import inspect
from collections.abc import Callable, Collection, Container, Sequence
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from taskengine.errors import InvalidConfiguration, NotSupportedYet, UnknownFunction
from taskengine.functions.builtin import BUILTINS
from taskengine.functions.job import JobFunction, JobMark, make_job, mark_of
from taskengine.functions.loading import import_file, import_named, resolve
from taskengine.model.definition import RetryPolicy
from taskengine.model.records import FunctionRow

__all__ = ["ENTRY_POINTS", "Registry", "builtin_registry"]

ENTRY_POINTS: Final = "taskengine.jobs"
_NEAREST: Final = 3


class Registry:
    """Job functions by name. A function of a module also answers to `module:function`."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobFunction] = {}
        self._aliases: dict[str, JobFunction] = {}
        self._disabled: dict[str, JobFunction] = {}

    def add(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        timeout: float | str | timedelta | None = None,
        retry: int | RetryPolicy | None = None,
        executor: str | None = None,
    ) -> JobFunction:
        """Register one function; options come before those of its `@job`.

        Raises InvalidConfiguration when the name is taken or an option does not fit, NotSupportedYet.
        """
        return self._keep(make_job(name, function, timeout=timeout, retry=retry, executor=executor))

    def load_file(self, path: Path | str) -> list[str]:
        """Import a file under its stem and register every `@job` function in it, imported ones too.

        Gives the names. Raises InvalidConfiguration when it cannot be imported or a name is taken.
        """
        module = import_file(Path(path))
        return self._add_marked(module, origin=str(Path(path).resolve()))

    def load_module(self, name: str) -> list[str]:
        """The same for a module of the Python path."""
        return self._add_marked(import_named(name))

    def load_entry_points(self) -> list[str]:
        """What installed packages declare in the group `taskengine.jobs`: a module, or a function under its name."""
        names = []
        for entry in entry_points(group=ENTRY_POINTS):
            try:
                found = entry.load()
            except Exception as error:
                raise InvalidConfiguration(f"entry point {entry.name} = {entry.value}: {error}") from error
            if isinstance(found, ModuleType):
                names += self._add_marked(found)
            else:
                names.append(self._keep(make_job(entry.name, found)).name)
        return names

    def get(self, name: str) -> JobFunction:
        """The function of that name. Raises UnknownFunction with the nearest names and what to do."""
        found = self._jobs.get(name) or self._aliases.get(name)
        if found is None:
            raise UnknownFunction(self._unknown(name))
        return found

    def names(self) -> list[str]:
        """Every name that `get` knows, sorted."""
        return sorted([*self._jobs, *self._aliases])

    def enable_builtin(self, names: Collection[str] | None) -> None:
        """Of the built-in jobs, only these may be run from now on; None: all of them.

        Raises InvalidConfiguration for a name that is none of theirs.
        """
        wanted = BUILTINS.keys() if names is None else set(names)
        if strange := sorted(wanted - BUILTINS.keys()):
            there = ", ".join(sorted(BUILTINS))
            raise InvalidConfiguration(f"functions.builtin: no built-in job {strange[0]!r}; there are: {there}")
        for name in BUILTINS:
            made = self._disabled.pop(name, None) or self._jobs.get(name)
            if made is None or not self.is_builtin(made):
                continue
            if name not in wanted:
                self._jobs.pop(name, None)
                self._disabled[name] = made
            elif self._jobs.setdefault(name, made) is not made:
                raise InvalidConfiguration(
                    f"functions.builtin: {name!r} is the name of {self._jobs[name].path} already; rename that one"
                )

    def is_builtin(self, made: JobFunction) -> bool:
        return BUILTINS.get(made.name) is made.function

    def jobs(self) -> list[JobFunction]:
        """Every function that may be run, by name."""
        return [self._jobs[name] for name in sorted(self._jobs)]

    def rows(self) -> list[FunctionRow]:
        """What the store keeps about the registered functions, by name."""
        return [_row(made) for made in self.jobs()]

    def restore(self, rows: Sequence[FunctionRow], allowed: Container[str]) -> list[str]:
        """Import functions of an earlier start again, under the names they had.

        allowed  modules that the configuration names; nothing else is imported, whatever the rows say
        Gives    one text for each function that could not be found, with the reason
        """
        lost = []
        for row in rows:
            if row.name in self._jobs:
                continue
            try:
                self._keep(_again(row, allowed))
            except (InvalidConfiguration, NotSupportedYet) as error:
                lost.append(f"{row.name} ({row.path}): {error}")
        return lost

    def _add_marked(self, module: ModuleType, origin: str = "") -> list[str]:
        names = []
        for attribute, function in list(vars(module).items()):
            mark = mark_of(function)
            if mark is None:
                continue
            own = getattr(function, "__module__", None) == module.__name__
            made = self._keep_marked(function, mark, attribute, origin if own else "")
            self._aliases.setdefault(f"{module.__name__}:{attribute}", made)
            names.append(made.name)
        return list(dict.fromkeys(names))

    def _keep_marked(self, function: Callable[..., Any], mark: JobMark, attribute: str, origin: str) -> JobFunction:
        name = mark.name or getattr(function, "__name__", attribute)
        known = self._jobs.get(name)
        if known is not None and known.function is function:  # two modules that show the same function
            return known
        return self._keep(make_job(name, function, origin=origin))

    def _keep(self, made: JobFunction) -> JobFunction:
        taken = self._jobs.get(made.name)
        if taken is not None:
            raise InvalidConfiguration(
                f"two job functions are called {made.name!r}: {taken.path} and {made.path}; "
                "give one of them another name: @job('another-name')"
            )
        self._jobs[made.name] = made
        return made

    def _unknown(self, name: str) -> str:
        if name in self._disabled:
            return (
                f"the built-in job {name!r} is not enabled here; add it to the list in the configuration: "
                f"functions.builtin: [{', '.join([*sorted(BUILTINS.keys() - self._disabled.keys()), name])}]"
            )
        near = difflib.get_close_matches(name, [*self._jobs, *self._aliases], _NEAREST)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        module = name.partition(":")[0]
        line = (
            f"list its module in the configuration: functions.modules: [{module}]"
            if ":" in name
            else ("register it: --app FILE, functions.modules in the configuration, or with_job_func(name, function)")
        )
        return f"no job function {name!r}; {hint}{line}"


def builtin_registry() -> Registry:
    """A registry that knows the built-in jobs."""
    registry = Registry()
    for name, function in BUILTINS.items():
        registry.add(name, function)
    return registry


def _again(row: FunctionRow, allowed: Container[str]) -> JobFunction:
    module = row.path.partition(":")[0]
    if "<" in row.path:
        raise InvalidConfiguration("it has no import path; the program has to register it again")
    if module not in allowed:
        raise InvalidConfiguration(f"module {module!r} is not allowed; add it: functions.modules: [{module}]")
    function = resolve(row.path)
    if mark_of(function) is None:
        raise InvalidConfiguration("it is not decorated with @job any more")
    return make_job(row.name, function)


def _row(made: JobFunction) -> FunctionRow:
    return FunctionRow(
        name=made.name,
        path=made.path,
        signature=str(inspect.signature(made.function)),
        doc=inspect.getdoc(made.function) or "",
        source_hash=_source_hash(made.function),
    )


def _source_hash(function: Callable[..., Any]) -> str:
    """SHA-256 of the source text, of the bytecode where there is none, empty for what has neither."""
    try:
        source = inspect.getsource(inspect.unwrap(function)).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        source = code.co_code if code is not None else b""
    return hashlib.sha256(source).hexdigest() if source else ""
