"""From text to a parsed expression, with the place of every fault."""

from typing import Final

import msgspec
from jinja2 import TemplateSyntaxError, nodes
from jinja2.parser import Parser

from taskengine.expressions.checker import Fault, hint
from taskengine.expressions.limits import MAX_SOURCE
from taskengine.expressions.sandbox import SANDBOX

__all__ = ["OPEN", "Parsed", "parse"]

OPEN: Final = "${{"
_CLOSE: Final = "}}"


class Parsed(msgspec.Struct, frozen=True):
    """length: characters of the expression, without the `}}` that ended it; closed: whether there was one."""

    tree: nodes.Expr
    length: int
    closed: bool


def parse(text: str, start: int) -> Parsed:
    """Parse the expression at `start` in `text`, up to its `}}` or the end. Raises `Fault` with offsets from `start`.

    The lexer finds the end, so `}}` inside a text or closing two mappings does not count.
    """
    # Carriage returns become spaces: the lexer would drop them, and offsets with them.
    source = text[start : start + MAX_SOURCE + len(_CLOSE)].replace("\r", " ")
    try:
        parser = Parser(SANDBOX, source, state="variable")
        tree = parser.parse_expression()
        token = parser.stream.current
    except TemplateSyntaxError as error:
        raise Fault(_plain(error.message or "syntax error") + hint(source), error.lineno - 1) from None
    except RecursionError:
        raise Fault("too many operations inside each other") from None
    except ValueError:  # more digits than int() takes
        raise Fault("a number is too large") from None
    if token.type not in ("eof", "variable_end"):
        raise Fault(f"unexpected {str(token.value)!r} after the expression" + hint(source), token.lineno - 1)
    closed = token.type == "variable_end"
    if closed and token.value.startswith("-"):
        raise Fault("`-}}` is not supported, white space around an expression is kept", token.lineno - 1)
    if not closed and len(source) > MAX_SOURCE:
        raise Fault(f"longer than {MAX_SOURCE:,} characters", MAX_SOURCE)
    return Parsed(tree, token.lineno - 1 if closed else len(source), closed)


def _plain(message: str) -> str:
    """Jinja's words for the reader of a value, who has no template and no print statement."""
    if message == "unexpected 'end of template'":
        return "the expression ends too early"
    message = message.replace("end of print statement", _CLOSE).replace("end of template", "the end")
    return message[:1].lower() + message[1:].rstrip(".")
