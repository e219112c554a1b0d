"""Flags that set settings of a server, shared by the commands that start one, show its settings, or check them."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from taskengine.config import Settings

__all__ = ["CONFIG_FLAG", "NAMES", "load_settings", "settings_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

CONFIG_FLAG: Final = "config_file"
NAMES: Final = {
    "host": "server.host",
    "port": "server.port",
    "tls_cert": "server.tls_cert",
    "tls_key": "server.tls_key",
    "behind_proxy": "server.behind_proxy",
    "read_only": "server.read_only",
    "log_level": "task-engine.general.log_level",
    "dsn": "task-engine.storage.database.dsn",
    "workers": "task-engine.execution.worker_concurrency",
    "apps": "functions.apps",
}
"""The setting of each option's parameter; `taskengine.config.keys` has the flags, a test compares both."""

_OPTIONS: Final = (
    click.option(
        "--config", CONFIG_FLAG, metavar="FILE", help="The configuration file.  [default: $TASKENGINE_CONFIG]"
    ),
    click.option("--host", metavar="ADDRESS", help="The address to listen on.  [default: 127.0.0.1]"),
    click.option("--port", type=int, metavar="N", help="The port; 0: a free one.  [default: 8080]"),
    click.option("--db", "dsn", metavar="DSN", help="The database.  [default: ./data/task-engine.db]"),
    click.option("-j", "--workers", type=int, metavar="N", help="How many tasks run at the same time.  [default: 20]"),
    click.option("--app", "apps", multiple=True, metavar="FILE", help="A Python file with jobs; may be repeated."),
    click.option("--tls-cert", metavar="FILE", help="A certificate with its chain, PEM."),
    click.option("--tls-key", metavar="FILE", help="Its key, PEM."),
    click.option(
        "--behind-proxy", multiple=True, metavar="ADDRESS", help="A proxy whose X-Forwarded headers are believed."
    ),
    click.option("--read-only", is_flag=True, default=None, help="Answer questions, change nothing."),
    click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.  [default: info]"),
)


def settings_options(command: _Command) -> _Command:
    """The flags, each stronger than its TASKENGINE_SECTION__KEY variable; the command gets them for `load_settings`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_settings(options: dict[str, Any]) -> "Settings":
    """The settings that these options, the environment and the file make. Raises InvalidConfiguration."""
    from taskengine.config import find_file, load

    flags = {NAMES[name]: value for name, value in options.items() if name in NAMES}
    return load(find_file(options.get(CONFIG_FLAG), os.environ), os.environ, flags)
