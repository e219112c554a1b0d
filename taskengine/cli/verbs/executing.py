"""What `taskengine workflow execute` does: start an instance on a server, and perhaps wait for it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.local.definitions import STDIN
from taskengine.cli.options import Where
from taskengine.cli.output import Format, Output, write_data, write_text
from taskengine.cli.targets.choosing import choose
from taskengine.cli.targets.interface import Target
from taskengine.cli.verbs.following import Since, follow, say_detached
from taskengine.cli.verbs.report import report_end
from taskengine.errors import InvalidConfiguration
from taskengine.model.definition import ParamSpec
from taskengine.model.params import parse_assignments

__all__ = ["execute", "say_started", "types_of"]


def execute(
    ambient: Ambient | None,
    workflow_id: str,
    *,
    params: Sequence[str],
    params_file: str,
    wait: bool,
    logs: bool,
    timeout_s: float | None,
    key: str | None,
    where: Where,
    output: Output,
) -> int:
    """`logs`: of `--follow`. The exit code is that of the instance's end where somebody waits for it."""
    ambient = ambient or Ambient()
    with choose(where, ambient) as target:
        instance_id = _start(target, workflow_id, params, params_file, key)
        if logs:
            return follow(ambient, target, instance_id, logs=True, output=output, timeout_s=timeout_s, since=Since())
        if not wait:
            return say_started(target, instance_id, output)
        try:
            target.wait(instance_id, timeout_s)
        except KeyboardInterrupt:
            return say_detached(target, instance_id)
        return report_end(target.detail(instance_id), instance_id, target.flags, output, ambient.clock)


def _start(target: Target, workflow_id: str, params: Sequence[str], params_file: str, key: str | None) -> str:
    given = _read_params(params_file) if params_file else {}
    if params:
        given |= parse_assignments(types_of(target, workflow_id), params)
    return target.execute(workflow_id, given, key).instance_id


def types_of(target: Target, workflow_id: str) -> Mapping[str, ParamSpec]:
    """What a text on the command line is read as; whether it fits is for the server to say."""
    if not target.lasts:
        return {}
    return {param.name: ParamSpec(type=param.type) for param in target.workflow(workflow_id).params}


def _read_params(file: str) -> dict[str, Any]:
    """A mapping from a JSON or YAML file. Raises InvalidConfiguration, OSError."""
    import yaml

    content = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    try:
        value = yaml.load(content, Loader=yaml.CSafeLoader)
        # What JSON has no word for, a date or a set, no server can be told.
        plain = msgspec.json.decode(msgspec.json.encode(value)) if value is not None else {}
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.MsgspecError, TypeError) as error:
        raise InvalidConfiguration(f"--params {file}: {error}") from None
    if not isinstance(plain, dict):
        raise InvalidConfiguration(f"--params {file}: it holds no mapping of names to values")
    return plain


def say_started(target: Target, instance_id: str, output: Output) -> int:
    """Its id, and how to watch it."""
    reply = {"instance_id": instance_id, "instance": None}
    form = output.form or Format.TABLE
    write_data(reply, form, table=lambda stream: write_text(instance_id, stream), key="instance_id")
    if form is Format.TABLE:
        output.hint(f"Started. Watch it:  taskengine instance watch {instance_id}{target.flags}")
    return exits.OK
