"""Which version of a workflow is meant."""

from taskengine.engine.engine import Engine
from taskengine.engine.views import VersionView, WorkflowView
from taskengine.errors import InvalidInput, NotFound
from taskengine.model.definition import decode_canonical
from taskengine.model.ids import WorkflowId

__all__ = ["find_version"]


async def find_version(engine: Engine, workflow_id: WorkflowId, version: str | None) -> WorkflowView:
    """The current version, or the one that begins like `version`.

    Raises NotFound; InvalidInput when several begin so.
    """
    if version is None:
        return await engine.get_workflow(workflow_id)
    found = _only(await engine.get_workflow_versions(workflow_id), workflow_id, version)
    row = await engine.store.definition(found.version)
    if row is None:
        raise NotFound("version", version)
    return WorkflowView(definition=decode_canonical(row.canonical), version=found.version, created_at=found.created_at)


def _only(versions: list[VersionView], workflow_id: str, version: str) -> VersionView:
    found = [view for view in versions if view.version.startswith(version)]
    if not found:
        raise NotFound("version", version, f"GET /api/v1/workflows/{workflow_id}/versions lists them")
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} versions of {workflow_id!r} begin with {version}; give more of it")
    return found[0]
