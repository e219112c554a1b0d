"""What `taskengine workflow graph` does: the graph of a definition as text that other tools draw."""

from collections.abc import Sequence

from taskengine.ambient import Ambient
from taskengine.api.shapes import graph_body
from taskengine.cli.local.definitions import is_file, known_jobs, load_definition
from taskengine.cli.options import Where
from taskengine.cli.output import write_text
from taskengine.cli.targets.choosing import choose
from taskengine.cli.targets.drawing import draw
from taskengine.errors import InvalidConfiguration
from taskengine.model.definition import canonical_form, version_of

__all__ = ["draw_graph"]


def draw_graph(ambient: Ambient | None, place: str, *, apps: Sequence[str], form: str, where: Where) -> None:
    """Of a file, or of a stored workflow. Without job files any job name will do: a drawing runs nothing."""
    if is_file(place):
        definition = load_definition(place, known_jobs(apps) if apps else None)
        write_text(draw(definition, graph_body(definition, version_of(canonical_form(definition))), form))
        return
    if apps:
        raise InvalidConfiguration(f"--app belongs to a file, and {place} is the id of a stored workflow")
    with choose(where, ambient) as target:
        write_text(target.graph(place, form))
