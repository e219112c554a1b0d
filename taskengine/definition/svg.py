"""The graph of a definition as a picture: layers from left to right, a box for each task."""

import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Final

from taskengine.definition.layers import Layers
from taskengine.model.definition import WorkflowDefinition

__all__ = ["to_svg"]

_CHAR_PX: Final = 7.5
_PAD_PX: Final = 12.0
_BOX_PX: Final = 30.0
_ROW_PX: Final = 46.0
_GAP_PX: Final = 64.0
_MARGIN_PX: Final = 16.0
_MAX_CHARS: Final = 40
_STYLE: Final = (
    "text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#1c2733;dominant-baseline:central}"
    "rect{fill:#f4f7fa;stroke:#5b7083;rx:6px}path{fill:none;stroke:#8296a8;stroke-width:1.4}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}rect{fill:#1f2a35;stroke:#7d93a6}path{stroke:#64788a}}"
)


def to_svg(definition: WorkflowDefinition) -> str:
    """A whole SVG document without scripts and without anything from elsewhere; every text in it is escaped."""
    labels = [_short(task.name) for task in definition.tasks]
    numbers = {task.name: at for at, task in enumerate(definition.tasks)}
    layers = Layers([[numbers[name] for name in dict.fromkeys(task.depends_on)] for task in definition.tasks])
    widths = [max((_width(labels[node]) for node in layer), default=0.0) for layer in layers.rows]
    lefts = _lefts(widths)
    height = max((len(layer) for layer in layers.rows), default=1) * _ROW_PX
    boxes: dict[int, tuple[float, float, float]] = {}
    for layer, left, width in zip(layers.rows, lefts, widths, strict=True):
        top = (height - len(layer) * _ROW_PX) / 2
        for at, node in enumerate(layer):
            boxes[node] = (left, _MARGIN_PX + top + at * _ROW_PX + _ROW_PX / 2, width)
    total = (lefts[-1] + widths[-1] if lefts else 200.0) + _MARGIN_PX
    parts = [_head(definition.title, total, height + 2 * _MARGIN_PX)]
    parts += [
        _way(boxes[before], boxes[node])
        for node in range(layers.graph.size)
        for before in layers.graph.dependencies(node)
    ]
    parts += [
        _box(boxes[at], label, task.name, task.job)
        for at, (label, task) in enumerate(zip(labels, definition.tasks, strict=True))
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(title: str, width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" role="img">\n<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" style="fill:#8296a8;stroke:none"/></marker></defs>'
    )


def _way(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x1, y1, x2, y2 = start[0] + start[2], start[1], end[0], end[1]
    bend = (x2 - x1) / 2
    return (
        f'<path d="M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"'
        ' marker-end="url(#arrow)"/>'
    )


def _box(place: tuple[float, float, float], label: str, name: str, job: str) -> str:
    x, y, width = place
    return (
        f"<g><title>{_text(name)} ({_text(job)})</title>"
        f'<rect x="{x:.1f}" y="{y - _BOX_PX / 2:.1f}" width="{width:.1f}" height="{_BOX_PX:.0f}"/>'
        f'<text x="{x + _PAD_PX:.1f}" y="{y:.1f}">{_text(label)}</text></g>'
    )


def _lefts(widths: Sequence[float]) -> list[float]:
    lefts, x = [], _MARGIN_PX
    for width in widths:
        lefts.append(x)
        x += width + _GAP_PX
    return lefts


def _short(name: str) -> str:
    return name if len(name) <= _MAX_CHARS else name[: _MAX_CHARS - 1] + "…"


def _width(label: str) -> float:
    cells = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in label)
    return cells * _CHAR_PX + 2 * _PAD_PX


def _text(text: str) -> str:
    """Escaped, and without the characters that XML has no form for."""
    return escape("".join(char if char.isprintable() else "\ufffd" for char in text))
