"""The graph of a definition as text. Job code is not needed for it."""

import sys
from typing import Final

from taskengine.cli.output import json_text
from taskengine.cli.safe import clean, clean_lines
from taskengine.cli.terminal import is_terminal
from taskengine.definition import to_ascii, to_dot, to_mermaid, to_svg
from taskengine.model.definition import WorkflowDefinition
from taskengine.wire import GraphBody

__all__ = ["draw"]

_WRITERS: Final = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}


def draw(definition: WorkflowDefinition, graph: GraphBody, form: str) -> str:
    """`form`: mermaid, dot, ascii, svg, json; without a line end behind it."""
    match form:
        case "json":
            return json_text(graph, pretty=is_terminal(sys.stdout))
        case "ascii":
            return to_ascii(definition, clean).rstrip("\n")
        case _:
            return clean_lines(_WRITERS[form](definition)).rstrip("\n")
