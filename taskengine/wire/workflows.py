"""Definitions over the wire."""

from datetime import datetime
from typing import Any

import msgspec

from taskengine.wire.instances import InstanceBody

__all__ = [
    "ExecuteReply",
    "ExecuteRequest",
    "GraphBody",
    "GraphEdge",
    "GraphNode",
    "ParamBody",
    "UploadReply",
    "UploadRequest",
    "VersionBody",
    "WorkflowDetail",
    "WorkflowSummary",
]


class WorkflowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow in its current version. `created_at` is that of the version; `schedule` is null without one."""

    id: str
    name: str
    description: str
    task_count: int
    version: str
    created_at: datetime
    labels: dict[str, str] = {}
    schedule: dict[str, Any] | None = None


class ParamBody(msgspec.Struct, frozen=True, kw_only=True):
    """A declared input. `has_default` tells a default of null from none."""

    name: str
    type: str
    required: bool = False
    has_default: bool = False
    default: Any = None
    enum: list[Any] = []
    minimum: float | None = None
    maximum: float | None = None
    pattern: str = ""
    description: str = ""


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a graph."""

    name: str
    job: str
    trigger: str
    when: str | None = None


class GraphEdge(msgspec.Struct, frozen=True, kw_only=True, rename={"before": "from", "after": "to"}):
    """Leads from a dependency to its dependent; `from` and `to` in JSON."""

    before: str
    after: str


class GraphBody(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes in definition order."""

    id: str
    name: str
    version: str
    nodes: list[GraphNode]
    edges: list[GraphEdge]


class WorkflowDetail(WorkflowSummary, frozen=True, kw_only=True):
    """A workflow with what it is made of. `definition` has the keys of a YAML file."""

    params: list[ParamBody]
    definition: dict[str, Any]
    graph: GraphBody


class VersionBody(msgspec.Struct, frozen=True, kw_only=True):
    """One version; `current` is the one that new instances get."""

    version: str
    created_at: datetime
    current: bool


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A definition as YAML inside JSON, for callers that only send JSON."""

    content: str


class UploadReply(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload did: a new workflow, a new version of a known one, or nothing new."""

    id: str
    version: str
    created: bool
    changed: bool


class ExecuteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inputs of an instance, by name."""

    params: dict[str, Any] = {}


class ExecuteReply(msgspec.Struct, frozen=True, kw_only=True):
    """`instance` is there when the caller waited, as it was at the end of the wait."""

    instance_id: str
    instance: InstanceBody | None = None
