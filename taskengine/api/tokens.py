"""Tokens over HTTP: make, list, revoke. The secret stands in one answer only, that of its making."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter

from taskengine.api.asking import Key
from taskengine.api.describing import problems
from taskengine.api.gate.tokens import Principal
from taskengine.api.parts import ApiParts, Asker, Parts
from taskengine.clock import Micros, seconds
from taskengine.errors import InvalidInput
from taskengine.model.records import TokenRow
from taskengine.wire import Envelope, TokenBody, TokenCreated, TokenRequest

__all__ = ["ROUTES", "token_body"]

_PATH: Final = "/api/v1/admin/tokens"
_LONGEST_S: Final = 100 * 366 * 86_400.0

TokenIdPath = Annotated[str, PathParameter(description="As `GET /api/v1/admin/tokens` lists it.")]


@post(_PATH, opt={"scope": "admin"}, responses=problems(409, 503))
async def create_token(
    data: JSONBody[TokenRequest], parts: Parts, principal: Asker, idempotency_key: Key = None
) -> Envelope[TokenCreated]:
    """Make a token. The answer is the only place where its secret is ever told, so a repeated key is a conflict."""
    row, secret = await parts.tokens.create(
        data.name, data.scope, _expiry(data.expires_in, parts), token_id=_token_id(principal, idempotency_key)
    )
    return Envelope(data=TokenCreated(secret=secret, **_fields(row)))


@get(_PATH, opt={"scope": "admin"})
async def list_tokens(parts: Parts) -> Envelope[list[TokenBody]]:
    """All tokens by their making, also those that were revoked or have expired."""
    return Envelope(data=[token_body(row) for row in parts.tokens.list()])


@delete(f"{_PATH}/{{token_id:str}}", opt={"scope": "admin"}, status_code=200, responses=problems(404, 503))
async def revoke_token(token_id: TokenIdPath, parts: Parts) -> Envelope[TokenBody]:
    """From now on the token opens nothing. Revoking it again changes nothing."""
    return Envelope(data=token_body(await parts.tokens.revoke(token_id)))


@post(f"{_PATH}/rotate-local", opt={"scope": "admin"}, status_code=200, responses=problems(409, 503))
async def rotate_local(parts: Parts) -> Envelope[TokenBody]:
    """Put a new secret into the server's token file and revoke the old one; the secret itself is not told."""
    return Envelope(data=token_body(await parts.tokens.rotate_local()))


def token_body(row: TokenRow) -> TokenBody:
    """A token as others may see it."""
    return TokenBody(**_fields(row))


def _fields(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scope": row.scope,
        "created_at": _time(row.created_us),
        "expires_at": None if row.expires_us is None else _time(row.expires_us),
        "revoked_at": None if row.revoked_us is None else _time(row.revoked_us),
    }


def _time(at_us: Micros) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)


def _expiry(expires_in: float | None, parts: ApiParts) -> Micros | None:
    if expires_in is None:
        return None
    if not 0 < expires_in <= _LONGEST_S:
        raise InvalidInput(f"expires_in is a number of seconds above 0 and of at most {_LONGEST_S:.0f}")
    return Micros(parts.clock.now_us() + seconds(expires_in))


def _token_id(principal: Principal, key: str | None) -> str | None:
    return None if key is None else str(uuid.uuid5(uuid.NAMESPACE_URL, f"token:{principal.id}:{key}"))


ROUTES: Final = [create_token, list_tokens, revoke_token, rotate_local]
