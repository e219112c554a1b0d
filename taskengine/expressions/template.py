"""Texts with `${{ expressions }}`: compiled once, cached, evaluated against names.

`$${{` stands for the characters `${{`. What an expression gives is data and is never looked through for
expressions again. Everything here is pure and may be called from any thread.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from jinja2 import nodes

from taskengine.errors import EvaluationFailed, InvalidExpression
from taskengine.expressions.checker import Checked, Fault, References, check
from taskengine.expressions.limits import MAX_EXPRESSIONS, MAX_TEXT, Meter, Refused
from taskengine.expressions.sandbox import METER, Program, generate
from taskengine.expressions.syntax import OPEN, parse
from taskengine.expressions.values import to_text

__all__ = ["Template", "compile_expression", "compile_template", "evaluate", "has_expression", "references"]

_MAX_NESTING: Final = 100
_CACHED: Final = 2_048
_CACHED_TEXT: Final = 16_384
"""Longer texts are compiled each time, so that the cache stays below some 50 MB whatever is thrown at it."""


class _Expression:
    """One expression: its source, what it mentions, and its code.

    Code is generated when it is first needed: a definition is checked on a server that may never run it, and
    generating takes five times as long as checking.
    """

    __slots__ = ("_passes", "_program", "_roots", "_tree", "references", "source")

    def __init__(self, source: str, checked: Checked) -> None:
        self.source = source
        self.references = checked.references
        self._roots = tuple(checked.references.roots)
        self._passes = checked.passes
        self._tree: nodes.Expr | None = checked.tree
        self._program: Program | None = None

    def value(self, names: Mapping[str, object], meter: Meter) -> object:
        variables: dict[str, object] = {root: names[root] for root in self._roots if root in names}
        variables[METER] = meter
        result = (self._program or self._generate())(variables)
        if not self._passes:
            meter.result(result)
        return result

    def _generate(self) -> Program:
        tree = self._tree
        if tree is not None:
            # Two threads may both come here; the second one's code is as good, and only complete code is stored.
            self._program = generate(tree)
            self._tree = None
        assert self._program is not None
        return self._program

    def text(self, names: Mapping[str, object], meter: Meter) -> str:
        return to_text(meter, self.value(names, meter))


class Template:
    """One compiled value. Immutable; `compile_template` and `compile_expression` make it.

    source      as it was given
    is_whole    the whole value is one expression, so it keeps the type of its result
    references  what its expressions mention
    """

    __slots__ = ("_parts", "is_whole", "references", "source")

    def __init__(self, source: str, parts: Sequence["str | _Expression"], is_whole: bool) -> None:
        self.source = source
        self.is_whole = is_whole
        self.references = References()
        self._parts = tuple(parts)
        for part in self._parts:
            if isinstance(part, _Expression):
                self.references |= part.references

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def evaluate(self, names: Mapping[str, object], where: str = "") -> object:
        """The value: of any JSON type when `is_whole`, else text.

        names   what the expressions may use; a name that is absent is an error only where it is used
        where   said in front of an error, e.g. `tasks[0].params.url`
        A container that was handed in with `names` comes back as the same object: do not change it.
        Raises `EvaluationFailed` and nothing else; the cause is chained when it was not foreseen.
        """
        meter = Meter()
        if self.is_whole:
            part = self._parts[0]
            assert isinstance(part, _Expression)
            return _guarded(part, part.value, names, meter, where)
        texts = [
            part if isinstance(part, str) else str(_guarded(part, part.text, names, meter, where))
            for part in self._parts
        ]
        if sum(map(len, texts)) > MAX_TEXT:
            raise EvaluationFailed(self.source, f"the text is longer than {MAX_TEXT:,} characters", where)
        return "".join(texts)


def _guarded(
    part: _Expression,
    step: Callable[[Mapping[str, object], Meter], object],
    names: Mapping[str, object],
    meter: Meter,
    where: str,
) -> object:
    try:
        return step(names, meter)
    except Refused as error:
        raise EvaluationFailed(part.source, str(error), where) from None
    except Exception as error:
        raise EvaluationFailed(part.source, _reason(error), where) from error


def _reason(error: Exception) -> str:
    """Words for what no rule of ours foresaw. Only the texts of these types are known to hold no values."""
    if isinstance(error, (RecursionError, MemoryError)):
        return "the value is too deep or too large"
    if isinstance(error, (TypeError, OverflowError, ZeroDivisionError)):
        return str(error)
    return f"it failed with {type(error).__name__}"


def has_expression(text: str) -> bool:
    """Whether `text` must go through `compile_template`; true for the escaped form `$${{` too."""
    return OPEN in text


def compile_template(text: str) -> Template:
    """Compile a text with `${{ }}` in it. Cached.

    A text that is one expression, apart from line ends behind it (YAML's `|` and `>` leave one), is whole.
    Raises `InvalidExpression` with an offset inside `text`.
    """
    return _compile_cached(text) if len(text) <= _CACHED_TEXT else _compile_text(text)


def compile_expression(source: str) -> Template:
    """Compile a bare expression, without `${{ }}`; it is whole. Cached. Raises `InvalidExpression`."""
    return _compile_bare(source)


def _compile_text(text: str) -> Template:
    try:
        parts = _parts(text)
    except Fault as fault:
        raise InvalidExpression(text, fault.reason, min(fault.offset, len(text))) from None
    texts = [part for part in parts if isinstance(part, str)]
    whole = len(parts) - len(texts) == 1 and not isinstance(parts[0], str) and not "".join(texts).strip("\r\n")
    return Template(text, parts, whole)


def _parts(text: str) -> list[str | _Expression]:
    """Literal pieces, with `$${{` undone, and expressions, in order. Empty pieces are left out."""
    parts: list[str | _Expression] = []
    literal, at, count = "", 0, 0
    while (found := text.find(OPEN, at)) >= 0:
        if found > at and text[found - 1] == "$":
            literal += text[at : found - 1] + OPEN
            at = found + len(OPEN)
            continue
        count += 1
        if count > MAX_EXPRESSIONS:
            raise Fault(f"more than {MAX_EXPRESSIONS:,} expressions in one text", found)
        literal += text[at:found]
        if literal:
            parts.append(literal)
        literal = ""
        expression, at = _expression_at(text, found + len(OPEN))
        parts.append(expression)
    literal += text[at:]
    return [*parts, literal] if literal else parts


def _expression_at(text: str, start: int) -> tuple[_Expression, int]:
    """The expression that starts behind a `${{`, and where the text goes on behind its `}}`."""
    if text.find("}}", start) < 0:
        raise Fault("`${{` without its `}}`; `$${{` stands for the characters", start - len(OPEN))
    try:
        parsed = parse(text, start)
        if not parsed.closed:
            raise Fault("`${{` without its `}}`", parsed.length)
        source = text[start : start + parsed.length]
        return _Expression(source, check(source, parsed.tree)), start + parsed.length + 2
    except Fault as fault:
        raise Fault(fault.reason, start + fault.offset) from None


_compile_cached: Final = lru_cache(_CACHED)(_compile_text)


@lru_cache(_CACHED)
def _compile_bare(source: str) -> Template:
    try:
        parsed = parse(source, 0)
        if parsed.closed:
            raise Fault("unexpected `}}`", parsed.length)
        return Template(source, [_Expression(source, check(source, parsed.tree))], is_whole=True)
    except Fault as fault:
        raise InvalidExpression(source, fault.reason, min(fault.offset, len(source))) from None


def references(value: object) -> References:
    """What all texts of a JSON-shaped value mention together. Raises `InvalidExpression`."""
    found, waiting = References(), [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            if OPEN in part:
                found |= compile_template(part).references
        elif isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)):
            waiting.extend(part)
    return found


def evaluate(value: object, names: Mapping[str, object], where: str = "") -> object:
    """A JSON-shaped value with every text evaluated, in new containers; keys and the rest stay as they are.

    What comes from `names` is data: a `${{` inside it stays text. `where` grows by the path to a failing text.
    Raises `EvaluationFailed`, also for a text that does not compile and for nesting beyond 100.
    """
    return _evaluated(value, names, where, _MAX_NESTING)


def _evaluated(value: object, names: Mapping[str, object], where: str, levels: int) -> object:
    if isinstance(value, str):
        return _evaluated_text(value, names, where) if OPEN in value else value
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if levels == 0:
        raise EvaluationFailed("", f"the value is nested deeper than {_MAX_NESTING}", where)
    if isinstance(value, Mapping):
        return {
            key: _evaluated(item, names, f"{where}.{key}" if where else str(key), levels - 1)
            for key, item in value.items()
        }
    return [_evaluated(item, names, f"{where}[{at}]", levels - 1) for at, item in enumerate(value)]


def _evaluated_text(text: str, names: Mapping[str, object], where: str) -> object:
    try:
        template = compile_template(text)
    except InvalidExpression as error:
        raise EvaluationFailed(text, error.reason, where) from error
    return template.evaluate(names, where)
