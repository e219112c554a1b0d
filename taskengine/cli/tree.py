"""The command tree: click groups that import a command when it is called, and what becomes of errors."""

import sys
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from taskengine.cli import exits
from taskengine.cli.root import COMMANDS, LATER, help_text

if TYPE_CHECKING:
    from taskengine.ambient import Ambient

__all__ = ["LazyGroup", "invoke"]

_NOT_YET: Final = "not supported yet; see docs/not-yet.md"


class LazyGroup(click.Group):
    """A group whose commands live in modules of `taskengine.cli.commands`.

    places  name to `module:attribute`
    later   names that a later release brings
    """

    def __init__(self, places: Mapping[str, str], later: Collection[str] = (), **options: Any) -> None:
        super().__init__(no_args_is_help=False, invoke_without_command=True, callback=_show_help, **options)
        self._places, self._later = places, later

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(f"taskengine.cli.commands.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing or name in self._places or name.startswith("-"):
            return super().resolve_command(ctx, args)
        if name in self._later:
            raise click.UsageError(f"{ctx.command_path} {name}: {_NOT_YET}", ctx)
        raise click.UsageError(self._unknown(name, ctx.command_path), ctx)

    def _unknown(self, name: str, path: str) -> str:
        from taskengine.model.spelling import did_you_mean, quoted

        begun = [place for place in self._places if place.startswith(name)]
        hint = f", did you mean `{begun[0]}`?" if len(begun) == 1 else did_you_mean(name, self._places)
        return f"{path} has no command {quoted(name)}{hint}"


class _Root(LazyGroup):
    def get_help(self, ctx: click.Context) -> str:
        return help_text()


@click.pass_context
def _show_help(ctx: click.Context) -> None:
    """A group without a command explains itself."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


ROOT: Final = _Root({name: f"{name}:command" for name in COMMANDS}, LATER, name="taskengine")


def invoke(arguments: list[str], ambient: "Ambient | None") -> int:
    """Parse and run; every way to end is an exit code, whatever is raised. BrokenPipeError passes."""
    _tolerate_any_text()
    settings: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "obj": ambient}
    try:
        with ROOT.make_context("taskengine", arguments, **settings) as context:
            code = ROOT.invoke(context)
        return code if isinstance(code, int) else exits.OK
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        return _show_usage(error)
    except (KeyboardInterrupt, click.Abort):
        return exits.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        from taskengine.cli.problems import report

        return report(error, arguments)


def _tolerate_any_text() -> None:
    """Where a stream's encoding has no such character, it is written as an escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _show_usage(error: click.ClickException) -> int:
    from taskengine.cli.safe import clean_lines

    lines = [f"Error: {error.format_message()}"]
    if isinstance(error, click.UsageError) and error.ctx is not None:
        lines.append(f"Try `{error.ctx.command_path} --help`.")
    sys.stderr.write(clean_lines("\n".join(lines)) + "\n")
    return exits.USAGE
