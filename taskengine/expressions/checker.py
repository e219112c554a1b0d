"""Reads one expression: what is allowed in it, what it refers to, and the tree that code is generated from.

Whatever is not listed here is refused, so a construct that a later Jinja adds is refused too.
"""

import difflib
import inspect
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import msgspec
from jinja2 import nodes

from taskengine.expressions.limits import MAX_DEPTH, MAX_INT_BITS
from taskengine.expressions.predicates import MISSING_TESTS, TESTS
from taskengine.expressions.sequences import FILTERS, SOFT_FILTERS

__all__ = ["ROOTS", "Checked", "Fault", "References", "check"]

ROOTS: Final = ("params", "tasks", "item", "index", "instance", "workflow", "schedule", "secrets")
_FIELDS: Final = ("result", "status", "error")
_METHOD_HINTS: Final = {
    "format": "`~`",
    "get": "`x['key'] | default(other)`",
    "endswith": "`x[-3:] == 'abc'`",
    "index": "`in`",
    "startswith": "`x[:3] == 'abc'`",
    "strip": "`| trim`",
    "append": "`+ [item]`",
}
_DASHED: Final = re.compile(r"\b(\w+)\.([\w-]*\w-\w[\w-]*|\d[\w-]*)")


class Fault(Exception):
    """The expression is refused; `offset` counts from its start. Never leaves this package."""

    def __init__(self, reason: str, offset: int = 0) -> None:
        super().__init__(reason, offset)
        self.reason, self.offset = reason, offset


class References(msgspec.Struct, frozen=True):
    """What expressions mention, found without evaluating them.

    tasks    names of tasks that are mentioned at all
    results  those of them whose `.result` is read
    errors   those of them whose `.error` is read
    roots    the names used, e.g. `params`, `item`
    params   the parameters named by a constant; `${{ params }}` alone adds to `roots` only
    """

    tasks: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    errors: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()
    params: frozenset[str] = frozenset()

    def __or__(self, other: "References") -> "References":
        return References(
            tasks=self.tasks | other.tasks,
            results=self.results | other.results,
            errors=self.errors | other.errors,
            roots=self.roots | other.roots,
            params=self.params | other.params,
        )


class Checked(msgspec.Struct, frozen=True):
    """tree: ready for code; passes: the value is data that was handed in, or a constant, and not made here."""

    tree: nodes.Expr
    references: References
    passes: bool


def check(source: str, expression: nodes.Expr) -> Checked:
    """Check a parsed expression. Raises `Fault`."""
    checker = _Checker()
    try:
        tree = checker.strict(expression)
    except Fault as fault:
        raise Fault(fault.reason + hint(source), fault.offset) from None
    return Checked(tree, checker.references(), _passes(expression))


def hint(source: str) -> str:
    """How to write a name with a dash or a leading digit, if the expression seems to have one."""
    match = _DASHED.search(source)
    if match is None or match[1] not in ROOTS:
        return ""
    return f"; a name with a dash or a leading digit is written {match[1]}['{match[2]}']"


def _passes(node: nodes.Expr) -> bool:
    if isinstance(node, nodes.Getitem):
        return not isinstance(node.arg, nodes.Slice) and _passes(node.node)
    if isinstance(node, nodes.Getattr):
        return _passes(node.node)
    if isinstance(node, nodes.CondExpr):
        return _passes(node.expr1) and node.expr2 is not None and _passes(node.expr2)
    if isinstance(node, (nodes.And, nodes.Or)):
        return _passes(node.left) and _passes(node.right)
    if isinstance(node, nodes.Filter) and node.name in ("default", "d", "first", "last"):
        return node.node is not None and _passes(node.node) and all(map(_passes, node.args))
    empty = isinstance(node, (nodes.List, nodes.Dict)) and not node.items
    return empty or isinstance(node, (nodes.Const, nodes.Name))


def _fail(reason: str, node: nodes.Node) -> NoReturn:
    raise Fault(reason, max(0, node.lineno - 1))


def _path(node: nodes.Expr) -> str:
    """How the user wrote the place, for messages: `params.rows[0]`; `value` for anything computed."""
    steps = []
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        if isinstance(node, nodes.Getattr):
            steps.append(f".{node.attr}")
        elif isinstance(node.arg, nodes.Const):
            key = node.arg.value
            steps.append(f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]")
        else:
            steps.append("[…]")
        node = node.node
    root = node.name if isinstance(node, nodes.Name) else "value"
    return root + "".join(reversed(steps))


class _Checker:
    """One walk over one expression. `strict` and `soft` say whether a missing value is an error at that place."""

    def __init__(self) -> None:
        self._tasks: set[str] = set()
        self._fields: dict[str, set[str]] = {field: set() for field in _FIELDS}
        self._roots: set[str] = set()
        self._params: set[str] = set()
        self._depth = 0

    def references(self) -> References:
        return References(
            tasks=frozenset(self._tasks),
            results=frozenset(self._fields["result"]),
            errors=frozenset(self._fields["error"]),
            roots=frozenset(self._roots),
            params=frozenset(self._params),
        )

    def strict(self, node: nodes.Expr) -> nodes.Expr:
        return self._walk(node, soft=False)

    def soft(self, node: nodes.Expr) -> nodes.Expr:
        return self._walk(node, soft=True)

    def _walk(self, node: nodes.Expr, *, soft: bool) -> nodes.Expr:
        visit = _VISITS.get(type(node))
        if visit is None:
            _fail(f"{type(node).__name__} is not available in expressions", node)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _fail(f"more than {MAX_DEPTH} operations inside each other", node)
        result = visit(self, node, soft)
        self._depth -= 1
        return result

    # values

    def _const(self, node: nodes.Const, soft: bool) -> nodes.Expr:
        value = node.value
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            _fail("the text has half of a surrogate pair", node)
        if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            _fail("the number is too large", node)
        if isinstance(value, float) and not math.isfinite(value):
            _fail("the number is too large", node)
        return node

    def _name(self, node: nodes.Name, soft: bool) -> nodes.Expr:
        if node.name not in ROOTS:
            _fail(_unknown(node.name, ROOTS, "name"), node)
        if node.name == "tasks":
            _fail("after `tasks` comes a task's name and a field: tasks['name'].result", node)
        self._roots.add(node.name)
        return node if soft else _internal("!", node)

    def _list(self, node: nodes.List | nodes.Tuple, soft: bool) -> nodes.Expr:
        return nodes.List([self.strict(item) for item in node.items], lineno=node.lineno)

    def _dict(self, node: nodes.Dict, soft: bool) -> nodes.Expr:
        for pair in node.items:
            if isinstance(pair.key, nodes.Const) and not isinstance(pair.key.value, str):
                _fail("the keys of a mapping are texts", pair.key)
        pairs = [nodes.Pair(self.strict(pair.key), self.strict(pair.value), lineno=pair.lineno) for pair in node.items]
        return nodes.Dict(pairs, lineno=node.lineno)

    # access

    def _access(self, node: nodes.Getattr | nodes.Getitem, soft: bool) -> nodes.Expr:
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return self._slice(node, node.arg)
        base, key = node.node, _key(node)
        if isinstance(base, nodes.Name) and base.name == "tasks":
            self._task_name(node)
            _fail(f"after a task's name comes .{' or .'.join(_FIELDS)}", node)
        if isinstance(base, nodes.Name) and base.name == "params" and isinstance(key, str):
            self._params.add(key)
        if isinstance(base, (nodes.Getattr, nodes.Getitem)) and _is_tasks(base.node):
            inner = self._task(base, node)
        elif isinstance(base, nodes.Name):
            self._name(base, soft=True)
            inner = base
        else:
            inner = self.strict(base)
        argument = nodes.Const(key) if isinstance(node, nodes.Getattr) else self.strict(node.arg)
        return _internal(".?" if soft else ".", inner, argument, nodes.Const(_path(base)))

    def _task(self, task: nodes.Getattr | nodes.Getitem, field: nodes.Getattr | nodes.Getitem) -> nodes.Expr:
        """`tasks.name` before one of its fields."""
        name, key = self._task_name(task), _key(field)
        if key not in self._fields:
            dotted = f"; a name with a dot is written tasks['{name}.{key}']" if isinstance(key, str) else ""
            _fail(f"after a task's name comes .{' or .'.join(_FIELDS)}{dotted}", field)
        self._roots.add("tasks")
        self._tasks.add(name)
        self._fields[key].add(name)
        return _internal(".", nodes.Name("tasks", "load"), nodes.Const(name), nodes.Const("tasks"))

    def _task_name(self, node: nodes.Getattr | nodes.Getitem) -> str:
        key = _key(node)
        if not isinstance(key, str):
            _fail("the name in tasks[…] is a constant text, so that dependencies can be checked", node)
        return unicodedata.normalize("NFC", key)

    def _slice(self, node: nodes.Getitem, part: nodes.Slice) -> nodes.Expr:
        if _is_tasks(node.node):
            _fail("the name in tasks[…] is a constant text, so that dependencies can be checked", node)
        bounds = [
            nodes.Const(None) if bound is None else self.strict(bound) for bound in (part.start, part.stop, part.step)
        ]
        return _internal("[:]", self.strict(node.node), *bounds)

    # operators

    def _binary(self, node: nodes.BinExpr, soft: bool) -> nodes.Expr:
        return type(node)(self.strict(node.left), self.strict(node.right), lineno=node.lineno)

    def _unary(self, node: nodes.UnaryExpr, soft: bool) -> nodes.Expr:
        return type(node)(self.strict(node.node), lineno=node.lineno)

    def _concat(self, node: nodes.Concat, soft: bool) -> nodes.Expr:
        return _internal("~", nodes.List([self.strict(part) for part in node.nodes]))

    def _compare(self, node: nodes.Compare, soft: bool) -> nodes.Expr:
        values = [self.strict(node.expr), *(self.strict(operand.expr) for operand in node.ops)]
        return _internal("<>", nodes.List(values), nodes.Const(" ".join(operand.op for operand in node.ops)))

    def _condition(self, node: nodes.CondExpr, soft: bool) -> nodes.Expr:
        if node.expr2 is None:
            _fail("an `if` in an expression needs its `else`", node)
        return nodes.CondExpr(
            self.strict(node.test),
            self._walk(node.expr1, soft=soft),
            self._walk(node.expr2, soft=soft),
            lineno=node.lineno,
        )

    # filters, tests, calls

    def _filter(self, node: nodes.Filter, soft: bool) -> nodes.Expr:
        if node.name not in FILTERS:
            _fail(_unknown(node.name, FILTERS, "filter"), node)
        _check_arguments(node, FILTERS[node.name], "filter")
        if node.name == "map" and node.args:
            _check_inner(node.args[0], FILTERS, "filter")
        elif node.name in _BY_TEST and len(node.args) > _BY_TEST[node.name]:
            _check_inner(node.args[_BY_TEST[node.name]], TESTS, "test")
        fallback = node.name in ("default", "d")
        value = self._walk(node.node, soft=fallback)  # type: ignore[arg-type]
        args = [self._walk(arg, soft=soft and fallback) for arg in node.args]
        name = f"{node.name}!" if node.name in SOFT_FILTERS and not soft else node.name
        return nodes.Filter(value, name, args, self._keywords(node), None, None, lineno=node.lineno)

    def _test(self, node: nodes.Test, soft: bool) -> nodes.Expr:
        if node.name not in TESTS:
            _fail(_unknown(node.name, TESTS, "test"), node)
        _check_arguments(node, TESTS[node.name], "test")
        value = self._walk(node.node, soft=node.name in MISSING_TESTS)
        args = [self.strict(arg) for arg in node.args]
        return nodes.Test(value, node.name, args, self._keywords(node), None, None, lineno=node.lineno)

    def _keywords(self, node: nodes.Filter | nodes.Test) -> list[nodes.Keyword]:
        keywords: Sequence[Any] = node.kwargs
        return [nodes.Keyword(word.key, self.strict(word.value), lineno=word.lineno) for word in keywords]

    def _call(self, node: nodes.Call, soft: bool) -> nodes.Expr:
        called = node.node
        if isinstance(called, nodes.Name) and called.name == "range":
            if node.kwargs or node.dyn_args or node.dyn_kwargs or not 1 <= len(node.args) <= 3:
                _fail("`range` takes one to three whole numbers", node)
            return _internal("range()", nodes.List([self.strict(arg) for arg in node.args]))
        if isinstance(called, nodes.Getattr):
            name = called.attr
            instead = f"`| {name}`" if name in FILTERS else _METHOD_HINTS.get(name, "a filter")
            _fail(f"`.{name}(…)` is a call, which expressions do not have; use {instead}", node)
        _fail("expressions have no calls but `range(…)`; filters are written `value | name`", node)


_BY_TEST: Final = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}
_VISITS: Final[dict[type[nodes.Node], Callable[[_Checker, Any, bool], nodes.Expr]]] = {
    nodes.Const: _Checker._const,
    nodes.Name: _Checker._name,
    nodes.List: _Checker._list,
    nodes.Tuple: _Checker._list,
    nodes.Dict: _Checker._dict,
    nodes.Getattr: _Checker._access,
    nodes.Getitem: _Checker._access,
    nodes.And: _Checker._binary,
    nodes.Or: _Checker._binary,
    nodes.Not: _Checker._unary,
    nodes.Neg: _Checker._unary,
    nodes.Pos: _Checker._unary,
    nodes.Concat: _Checker._concat,
    nodes.Compare: _Checker._compare,
    nodes.CondExpr: _Checker._condition,
    nodes.Filter: _Checker._filter,
    nodes.Test: _Checker._test,
    nodes.Call: _Checker._call,
    nodes.Add: _Checker._binary,
    nodes.Sub: _Checker._binary,
    nodes.Mul: _Checker._binary,
    nodes.Div: _Checker._binary,
    nodes.FloorDiv: _Checker._binary,
    nodes.Mod: _Checker._binary,
    nodes.Pow: _Checker._binary,
}


def _internal(name: str, value: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=1)


def _is_tasks(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Name) and node.name == "tasks"


def _key(node: nodes.Getattr | nodes.Getitem) -> object:
    """The constant key, or None where it is computed."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) else None


def _unknown(name: str, known: Any, what: str) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    if near:
        return f"there is no {what} {name!r}, did you mean {near[0]!r}?"
    listing = f" (there are: {', '.join(known)}; text is written in quotes)" if what == "name" else ""
    return f"there is no {what} {name!r}{listing}"


def _check_inner(argument: nodes.Expr, known: Any, what: str) -> None:
    if isinstance(argument, nodes.Const) and argument.value not in known:
        _fail(_unknown(str(argument.value), known, what), argument)


def _check_arguments(node: nodes.Filter | nodes.Test, function: Callable[..., object], what: str) -> None:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        _fail("arguments are written out; `*` and `**` are not available", node)
    words: Sequence[Any] = node.kwargs
    keywords = {word.key: None for word in words}
    if len(keywords) != len(words):
        _fail(f"the {what} {node.name!r} gets an argument twice", node)
    try:
        inspect.signature(function).bind(None, None, *node.args, **keywords)
    except TypeError as error:
        _fail(f"the {what} {node.name!r}: {error}", node)
