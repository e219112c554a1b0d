"""`taskengine version`, for the forms that the quick answer does not know."""

import click

from taskengine.cli.output import write_text
from taskengine.cli.root import version_text

__all__ = ["command"]


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def command(as_json: bool) -> None:
    """Print the version."""
    write_text(version_text(as_json=as_json))
