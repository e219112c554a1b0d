"""How params reach the arguments of a function. Worked out once per function, applied for each call."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from taskengine.errors import BadArguments
from taskengine.functions.context import JobContext, SyncTaskContext, TaskContext
from taskengine.functions.params import convert
from taskengine.functions.services import Services

__all__ = ["Argument", "Binder", "Bound"]

Bound = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of one call."""

_NOTHING: Final[Bound] = ((), {})
_CONTEXTS: Final = (JobContext, TaskContext, SyncTaskContext)
_CONTEXT_NAMES: Final = frozenset(kind.__name__ for kind in _CONTEXTS)
_SCALARS: Final = frozenset({str, int, float, bool})


class Argument(msgspec.Struct, frozen=True):
    """One argument that a param can fill.

    kind      what values are converted to; Any leaves them alone
    service   the annotated class, if a service of that type may fill it
    """

    name: str
    kind: Any = Any
    required: bool = True
    service: type | None = None
    positional: bool = False

    def take(self, value: Any) -> Any:
        if self.kind is Any or (self.kind in _SCALARS and type(value) is self.kind):
            return value
        return convert(value, self.kind, f"argument {self.name!r}")


class Binder:
    """The recipe for one function.

    A parameter annotated with a context class, or an unannotated one called `ctx`, gets the context. An argument
    annotated with the type of a registered service gets the service unless a param has its name. Everything else is
    filled by the param of its name, converted to its annotation; annotations that msgspec cannot convert to, or that
    cannot be resolved, are left alone. A function that takes the context alone reads all params through it.
    """

    __slots__ = ("_arguments", "_context", "_context_positional", "_extra", "_wants_services")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._arguments: dict[str, Argument] = {}
        self._context: str | None = None
        self._context_positional = False
        self._extra: Argument | None = None
        hints = _Hints(function)
        for parameter in inspect.signature(function).parameters.values():
            self._add(parameter, hints)
        self._wants_services = any(argument.service for argument in self._arguments.values())

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names that params can fill."""
        return tuple(self._arguments)

    @property
    def takes_context(self) -> bool:
        """Whether the function gets the context, and so may ask for upstream results."""
        return self._context is not None

    def fitting(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those of them that the function can take; all, if it takes any or reads them through its context."""
        if self._extra is not None or (not self._arguments and self._context is not None):
            return params
        return {name: value for name, value in params.items() if name in self._arguments}

    def bind(self, params: Mapping[str, Any], context: JobContext, services: Services) -> Bound:
        """Arguments for one call. Raises BadArguments; what a service's factory raises goes through."""
        if not self._arguments and self._extra is None:
            return self._bind_nothing(params, context)
        values, missing = self._fill(params, services)
        if missing:
            raise BadArguments(f"missing {_listed(missing)}; given are: {', '.join(params) or 'none'}")
        if len(params) > len(self._arguments) or not self._arguments.keys() >= params.keys():
            self._take_extra(params, values)
        return self._arranged(values, context)

    def _bind_nothing(self, params: Mapping[str, Any], context: JobContext) -> Bound:
        if self._context is not None:
            return ((context,), {}) if self._context_positional else ((), {self._context: context})
        if params:
            raise BadArguments(f"unknown {_listed(params)}; the function takes no arguments")
        return _NOTHING

    def _fill(self, params: Mapping[str, Any], services: Services) -> tuple[dict[str, Any], list[str]]:
        values: dict[str, Any] = {}
        missing: list[str] = []
        for name, argument in self._arguments.items():
            if name in params:
                values[name] = argument.take(params[name])
            elif argument.service is not None and services.has(argument.service):
                values[name] = services.get(argument.service)
            elif argument.required:
                missing.append(name)
        return values, missing

    def _take_extra(self, params: Mapping[str, Any], values: dict[str, Any]) -> None:
        """Params without an argument: into `**kwargs`, or all of them are for the context, or refused."""
        extra = [name for name in params if name not in self._arguments]
        if self._extra is not None and self._context not in extra:
            take = self._extra.take
            values.update((name, take(params[name])) for name in extra)
        elif not self._reads_through_context(values, params):
            takes = ", ".join(self._arguments) or "none"
            raise BadArguments(f"unknown {_listed(extra)}; the function takes: {takes}")

    def _reads_through_context(self, values: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
        """Context and services only: as good as the context alone."""
        filled = self._wants_services and all(name in values and name not in params for name in self._arguments)
        return self._context is not None and filled

    def _arranged(self, values: dict[str, Any], context: JobContext) -> Bound:
        if self._context is not None and not self._context_positional:
            values[self._context] = context
        front: list[Any] = [context] if self._context_positional else []
        for name, argument in self._arguments.items():
            if argument.positional and name in values:
                front.append(values.pop(name))
        return tuple(front), values

    def _add(self, parameter: inspect.Parameter, hints: "_Hints") -> None:
        hint = hints.of(parameter)
        positional = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            self._extra = Argument(f"**{parameter.name}", _convertible(hint))
        elif self._context is None and _is_context(parameter, hint):
            self._context, self._context_positional = parameter.name, positional
        else:
            required = parameter.default is inspect.Parameter.empty
            kind, service = _convertible(hint), _service_type(hint)
            self._arguments[parameter.name] = Argument(parameter.name, kind, required, service, positional)


class _Hints:
    """Annotations of a function, texts resolved one by one: one that fails must not spoil the others."""

    def __init__(self, function: Callable[..., Any]) -> None:
        bare = inspect.unwrap(function)
        bare = getattr(bare, "func", bare)  # functools.partial
        if not hasattr(bare, "__globals__") and not inspect.ismethod(bare):
            bare = type(bare).__call__
        inner = getattr(bare, "__func__", bare)
        self._names: dict[str, Any] = dict(getattr(inner, "__globals__", {}))
        self._names.update(_closed_over(inner))

    def of(self, parameter: inspect.Parameter) -> Any:
        hint = parameter.annotation
        if hint is inspect.Parameter.empty:
            return hint
        if isinstance(hint, str):
            try:
                hint = eval(hint, self._names)
            except Exception:
                return hint
        return type(None) if hint is None else hint


def _closed_over(function: Any) -> dict[str, Any]:
    cells = getattr(function, "__closure__", None) or ()
    found = {}
    for name, cell in zip(function.__code__.co_freevars if cells else (), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _is_context(parameter: inspect.Parameter, hint: Any) -> bool:
    if hint is inspect.Parameter.empty:
        return parameter.name == "ctx"
    if isinstance(hint, str):  # imported for the type checker only
        return hint.rpartition(".")[2].strip() in _CONTEXT_NAMES
    return any(choice in _CONTEXTS for choice in _choices(hint))


def _choices(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _service_type(hint: Any) -> type | None:
    classes = [choice for choice in _choices(hint) if choice is not type(None)]
    if len(classes) != 1 or not isinstance(classes[0], type) or classes[0].__module__ == "builtins":
        return None
    return classes[0]


def _convertible(hint: Any) -> Any:
    if hint is inspect.Parameter.empty or isinstance(hint, str):
        return Any
    try:
        msgspec.json.Decoder(hint)
    except Exception:  # whatever msgspec has against it, the value is passed on as it is
        return Any
    return hint


def _listed(names: typing.Iterable[str]) -> str:
    texts = [repr(name) for name in names]
    return f"argument{'s' if len(texts) > 1 else ''} {', '.join(texts)}"
