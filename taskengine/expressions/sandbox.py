"""The Jinja environment that expressions are parsed and compiled in.

Nothing of Jinja's runtime is reachable but what is registered here: no globals, no attributes, no calls. The checker
(`checker.py`) turns every access, comparison and concatenation into a filter of this environment before the code is
generated, so each passes the meter; arithmetic comes through Jinja's own interception of operators. The names of
the internal filters cannot be written by a user, since they are no identifiers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from jinja2 import TemplateSyntaxError, nodes, pass_context
from jinja2.environment import TemplateExpression
from jinja2.exceptions import SecurityError
from jinja2.lexer import TokenStream
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from taskengine.expressions.limits import MAX_BRACKETS
from taskengine.expressions.operators import binary, chain, concat, make_range, slice_of, unary
from taskengine.expressions.predicates import TESTS
from taskengine.expressions.sequences import FILTERS, SOFT_FILTERS
from taskengine.expressions.values import Missing, lookup, present

__all__ = ["METER", "SANDBOX", "Program", "generate"]

METER: Final = "~meter"
"""Under this name the meter travels among the variables; no identifier, so no expression can say it."""

Program = Callable[[Mapping[str, object]], object]
"""Takes the names of the expression and the meter under `METER`."""

_ABSENT: Final = object()
_ESCAPES: Final = re.compile(r"""\\(?:[\\'"nrtbfva0\n](?![0-7])|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8})""")


class _Sandbox(SandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        # Jinja knows lines only. Here a token's line number is its offset + 1, and so is that of every node and
        # syntax error; a message can then point at the character.
        return TokenStream(self.lexer.wrap(_with_offsets(self, source), name, filename), name, filename)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return binary(context.parent[METER], operator, left, right)

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        return unary(operator, arg)

    # The checker leaves none of these three in the code; should one slip through, it stops here.
    def getattr(self, obj: Any, attribute: str) -> Any:
        raise SecurityError("attributes are not available")

    def getitem(self, obj: Any, argument: Any) -> Any:
        raise SecurityError("attributes are not available")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        raise SecurityError("calls are not available")


def _with_offsets(environment: _Sandbox, source: str) -> Iterator[tuple[int, str, str]]:
    offset, depth = 0, 0
    try:
        for _, token, text in environment.lexer.tokeniter(source, None, None, "variable"):
            if token == "operator":
                depth += (text in "([{") - (text in ")]}")
            elif token == "string":
                _check_escapes(text, offset)
            if depth > MAX_BRACKETS:
                raise TemplateSyntaxError(f"more than {MAX_BRACKETS} brackets inside each other", offset + 1)
            yield offset + 1, token, text
            offset += len(text)
    except TemplateSyntaxError as error:
        if error.lineno <= offset:  # the lexer's own, which counts lines
            error.lineno = offset + 1
        raise


def _check_escapes(literal: str, offset: int) -> None:
    """Unknown escapes would be a warning of the codec now and an error of a later Python."""
    at = literal.find("\\")
    while at >= 0:
        match = _ESCAPES.match(literal, at)
        if match is None:
            shown = literal[at : at + 2]
            raise TemplateSyntaxError(f"{shown!r:.8} is no escape; a backslash is written twice", offset + at + 1)
        at = literal.find("\\", match.end())


def _metered(function: Callable[..., object], finish: Callable[[object], object] | None) -> Callable[..., object]:
    @pass_context
    def run(context: Context, /, value: object, *args: object, **kwargs: object) -> object:
        result = function(context.parent[METER], value, *args, **kwargs)
        return finish(result) if finish else result

    return run


def _item(value: object, key: object, path: str) -> object:
    return present(lookup(value, key, path))


def _make() -> _Sandbox:
    environment = _Sandbox(
        undefined=Missing, optimized=False, autoescape=False, cache_size=0, keep_trailing_newline=True
    )
    environment.globals.clear()
    environment.filters = {name: _metered(f, None) for name, f in FILTERS.items()}
    environment.filters |= {f"{name}!": _metered(FILTERS[name], present) for name in SOFT_FILTERS}
    environment.filters |= {
        ".": _item,
        ".?": lookup,
        "!": present,
        "~": _metered(concat, None),
        "[:]": _metered(slice_of, None),
        "<>": _metered(chain, None),
        "range()": _metered(make_range, None),
    }
    environment.tests = {name: _metered(test, None) for name, test in TESTS.items()}
    return environment


SANDBOX: Final = _make()


def generate(expression: nodes.Expr) -> Program:
    """Code for a checked expression: what `Environment.compile_expression` does after parsing.

    A plain lookup, which most expressions are, is walked instead: that spares 0.2 ms of compiling Python, and
    evaluates in a fifth of the time.
    """
    walk = _walk(expression)
    if walk is not None:
        return walk
    expression.set_environment(SANDBOX)
    body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)]
    template = SANDBOX.from_string(nodes.Template(body, lineno=1))
    return TemplateExpression(template, undefined_to_none=False)


def _walk(expression: nodes.Expr) -> Program | None:
    """The program of a name followed by constant keys, or None for any other expression."""
    steps: list[tuple[object, str]] = []
    while isinstance(expression, nodes.Filter) and expression.name == ".":
        key, path = expression.args
        if not isinstance(key, nodes.Const) or not isinstance(path, nodes.Const) or expression.node is None:
            return None
        steps.insert(0, (key.value, path.value))
        expression = expression.node
    if not steps or not isinstance(expression, nodes.Name):
        return None
    root = expression.name

    def walk(names: Mapping[str, object]) -> object:
        value = names.get(root, _ABSENT)
        if value is _ABSENT:
            value = Missing(name=root)
        for key, path in steps:
            value = lookup(value, key, path)
        return present(value)

    return walk
