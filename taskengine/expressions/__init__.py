"""`${{ expressions }}` in the values of a definition: a limited Jinja language, compiled once and cached.

docs/expressions.md describes the language for users. `definition` compiles every value to check it and to see what
it refers to; the attempt of a task evaluates it. Both may call from any thread; nothing here waits.
"""

from taskengine.expressions.checker import References
from taskengine.expressions.scalars import truthy
from taskengine.expressions.template import (
    Template,
    compile_expression,
    compile_template,
    evaluate,
    has_expression,
    references,
)

__all__ = [
    "References",
    "Template",
    "compile_expression",
    "compile_template",
    "evaluate",
    "has_expression",
    "references",
    "truthy",
]
