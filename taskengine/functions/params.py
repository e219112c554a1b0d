"""A task's params as a job reads them, and the conversion of one value to an annotated type."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, cast, overload

import msgspec

from taskengine.errors import BadArguments

__all__ = ["Params", "convert"]

_SHOWN: Final = 60


class Params(Mapping[str, Any]):
    """The task's params, already evaluated. Texts become numbers and booleans where those are asked for."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({dict(self._values)!r})"

    def has(self, name: str) -> bool:
        return name in self._values

    def require(self, name: str) -> Any:
        """The value; BadArguments when the param was not given."""
        if name not in self._values:
            known = ", ".join(self._values) or "none"
            raise BadArguments(f"param {name!r} is required; given are: {known}")
        return self._values[name]

    @overload
    def get_str(self, name: str) -> str | None: ...
    @overload
    def get_str(self, name: str, default: str) -> str: ...
    def get_str(self, name: str, default: str | None = None) -> str | None:
        """The value as it is, if it is a text; BadArguments for anything else."""
        return cast(str | None, self._typed(name, str, default))

    @overload
    def get_int(self, name: str) -> int | None: ...
    @overload
    def get_int(self, name: str, default: int) -> int: ...
    def get_int(self, name: str, default: int | None = None) -> int | None:
        return cast(int | None, self._typed(name, int, default))

    @overload
    def get_float(self, name: str) -> float | None: ...
    @overload
    def get_float(self, name: str, default: float) -> float: ...
    def get_float(self, name: str, default: float | None = None) -> float | None:
        return cast(float | None, self._typed(name, float, default))

    @overload
    def get_bool(self, name: str) -> bool | None: ...
    @overload
    def get_bool(self, name: str, default: bool) -> bool: ...
    def get_bool(self, name: str, default: bool | None = None) -> bool | None:
        """`true`, `false`, 1 and 0 count as booleans, as texts too."""
        return cast(bool | None, self._typed(name, bool, default))

    def _typed(self, name: str, kind: type, default: Any) -> Any:
        if name not in self._values:
            return default
        return convert(self._values[name], kind, f"param {name!r}")


def convert(value: Any, kind: Any, where: str) -> Any:
    """`value`, of a JSON shape, as the annotated type. Raises BadArguments that says what came and what is wanted.

    Texts become numbers, booleans and times where those are wanted; a number never becomes a text, since its text
    is lost already (`000001` read as 1).
    """
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=_custom)
    except msgspec.ValidationError as error:
        raise BadArguments(_mismatch(value, str(error), where)) from None


def _custom(kind: type, value: Any) -> Any:
    """Types that msgspec does not know: paths, and pydantic models by their `model_validate`."""
    if issubclass(kind, PurePath) and isinstance(value, str):
        return kind(value)
    validate = getattr(kind, "model_validate", None)
    if callable(validate):
        return validate(value)
    if isinstance(value, kind):
        return value
    raise msgspec.ValidationError(f"Expected `{kind.__name__}`, got `{_came(value)}`")


def _mismatch(value: Any, reason: str, where: str) -> str:
    text, _, path = reason.partition(" - at `$")
    path = path.removesuffix("`")
    place = f"{where} at {path.removeprefix('.')}" if path else where
    shown = "" if path else f" {_short(value)}"
    hint = "; write it in quotes" if "Expected `str" in text and not path and _is_number(value) else ""
    text = text.replace("`", "")
    return f"{place}: {text[:1].lower()}{text[1:]}{shown}{hint}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _came(value: Any) -> str:
    return type(value).__name__


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
