"""Where definitions are handed in: read, compared with what the caller believes is current, then changed."""

from typing import Final, Literal

import anyio
import msgspec
from litestar.datastructures import State

from taskengine.api.checking import Checker
from taskengine.api.problems import Refusal
from taskengine.api.replies import Headers
from taskengine.definition.apart import Request
from taskengine.engine.engine import Engine
from taskengine.engine.views import Registration
from taskengine.errors import NotFound
from taskengine.model.definition import WorkflowDefinition, canonical_form, version_of
from taskengine.wire import UploadRequest

__all__ = ["Desk", "desk_of", "etag", "is_named"]

_KEY: Final = "definition_desk"
_WRAPPED: Final = msgspec.json.Decoder(UploadRequest)


class Desk:
    """One for each server. Changes go one after the other, so that nothing comes between `If-Match` and them."""

    def __init__(self, checker: Checker | None = None) -> None:
        self._checker = checker or Checker()
        self._turn = anyio.Lock()

    async def read(self, body: bytes, content_type: str, engine: Engine, limit_bytes: int) -> WorkflowDefinition:
        """The definition in a request, for the jobs and pools that the engine has.

        Raises InvalidDefinition, with positions in the text that was sent.
        """
        text, form = _form_of(body, content_type)
        jobs, pools = engine.registry.names(), [pool.name for pool in engine.pools]
        return await self._checker.read(Request(text=text, form=form, jobs=jobs, pools=pools, limit_bytes=limit_bytes))

    async def register(self, engine: Engine, definition: WorkflowDefinition, if_match: str | None) -> Registration:
        """Raises Refusal 412 when another version is current than `if_match` says; CommitFailed, Unavailable."""
        async with self._turn:
            await _expect(engine, definition.id, if_match)
            return await engine.register_workflow(definition)

    async def preview(self, engine: Engine, definition: WorkflowDefinition) -> Registration:
        """What `register` would say, without doing it."""
        version = version_of(canonical_form(definition))
        current = await _current(engine, definition.id)
        return Registration(version=version, created=current is None, changed=current != version)

    async def remove(self, engine: Engine, workflow_id: str, if_match: str | None, *, force: bool) -> None:
        """Raises NotFound, Conflict, Refusal 412, CommitFailed."""
        async with self._turn:
            await _expect(engine, workflow_id, if_match)
            await engine.delete_workflow(workflow_id, force=force)


def desk_of(state: State) -> Desk:
    """A dependency: the desk of this application."""
    desk: Desk | None = state.get(_KEY)
    if desk is None:
        desk = state[_KEY] = Desk()
    return desk


def etag(version: str) -> Headers:
    """Headers of an answer that is right as long as this version is current."""
    return ((b"etag", b'"%b"' % version.encode()), (b"cache-control", b"no-cache"))


def is_named(header: str | None, version: str) -> bool:
    """Whether an `If-Match` or `If-None-Match` names this version; a star names any."""
    named = [each.strip().removeprefix("W/") for each in (header or "").split(",")]
    return "*" in named or f'"{version}"' in named


async def _expect(engine: Engine, workflow_id: str, if_match: str | None) -> None:
    if if_match is None:
        return
    current = await _current(engine, workflow_id)
    if current is None:
        raise Refusal(412, f"If-Match names a version, and there is no workflow {workflow_id!r}")
    if not is_named(if_match, current):
        detail = f'the current version of {workflow_id!r} is "{current}"; somebody has changed it: get it and look'
        raise Refusal(412, detail, {"ETag": f'"{current}"'})


async def _current(engine: Engine, workflow_id: str) -> str | None:
    try:
        return (await engine.get_workflow(workflow_id)).version
    except NotFound:
        return None


def _form_of(body: bytes, content_type: str) -> tuple[bytes, Literal["yaml", "json"]]:
    """The text of a definition and its language; YAML may come inside JSON."""
    if not _is_json(content_type):
        return body, "yaml"
    try:
        return _WRAPPED.decode(body).content.encode(errors="surrogatepass"), "yaml"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body, "json"  # the definition itself, whose faults its reader tells with their places


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")
