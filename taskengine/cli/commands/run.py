"""`taskengine run FILE`: one workflow to its end, in this process, on a store of its own."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from taskengine.ambient import Ambient
from taskengine.cli import exits
from taskengine.cli.definitions import load_definition
from taskengine.cli.detail import instance_detail
from taskengine.cli.output import Format, json_text, output_options, write_data, write_text
from taskengine.cli.problems import say
from taskengine.cli.resuming import resume_run
from taskengine.cli.runs import Runs
from taskengine.cli.stdio import stdout_kept_for_data
from taskengine.cli.terminal import is_terminal
from taskengine.cli.work import Ending, Watching, make_builder, work
from taskengine.engine.engine import Engine
from taskengine.model.ids import InstanceId

__all__ = ["command"]
