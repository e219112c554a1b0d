"""Tokens: who may do what. The database keeps digests; the secret is told once, at its making.

A secret has 256 bits from the system's randomness, so a plain SHA-256 keeps it: there is nothing to guess and no need
for a slow hash.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from taskengine.ambient import Ambient
from taskengine.api.gate.secretfile import read_secret, write_secret
from taskengine.clock import Micros, TimerHandle
from taskengine.engine.engine import Engine
from taskengine.errors import Conflict, InvalidInput, NotFound
from taskengine.model.records import TokenRow
from taskengine.wire import Scope

__all__ = ["LOCAL_NAME", "Principal", "TokenBook", "allows", "digest_of", "new_secret"]

LOCAL_NAME: Final = "local"
_RANKS: Final[Mapping[str, int]] = {"read": 1, "operate": 2, "define": 3, "admin": 4}
_PREFIX: Final = "te_"
_NOBODY: Final = "0" * 64
_MAX_NAME: Final = 100
_MAX_ROWS: Final = 10_000
_LOOK_S: Final = 60.0
"""An expiry is a time on the wall's clock, which somebody may set: a timer looks at it again after this long."""


class Principal(msgspec.Struct, frozen=True):
    """Who a request comes from: the token it was sent with."""

    id: str
    name: str
    scope: Scope


def allows(scope: str, needed: str) -> bool:
    """Whether a token of `scope` is enough for `needed`; each includes the ones before it. Unknown names never are."""
    return needed in _RANKS and _RANKS.get(scope, 0) >= _RANKS[needed]


def new_secret() -> str:
    """`te_` and 43 characters: 256 bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is kept of a secret: SHA-256 in hex."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class TokenBook:
    """The tokens of one database, held in memory and written through the engine. Belongs to the loop's thread.

    `load` comes first, after the engine's start. Another process that changes the same tokens is not seen; one process
    owns a database.

    loaded  before that nobody is known, which says nothing about a token
    """

    def __init__(self, engine: Engine, ambient: Ambient) -> None:
        self._engine = engine
        self._ambient = ambient
        self._rows: dict[str, TokenRow] = {}
        self._by_digest: dict[str, TokenRow] = {}
        self._watches: dict[str, _Watch] = {}
        self._local: Path | None = None
        self.loaded = False

    async def load(self) -> None:
        """Read what is stored. Raises StoreError, Unavailable."""
        for row in await self._engine.store.tokens():
            self._keep(row)
        self.loaded = True

    def check(self, secret: str) -> Principal | None:
        """Whose secret this is; None: nobody's, or that of a token that was revoked or has expired.

        Hit and miss take the same way: a digest, a look-up by it, one comparison in constant time. How long the look-up
        takes tells at most something about the digest of what was sent, which its sender knows.
        """
        digest = digest_of(secret)
        row = self._by_digest.get(digest)
        same = hmac.compare_digest(digest, row.digest if row is not None else _NOBODY)
        if row is None or not same or not self._active(row) or row.scope not in _RANKS:
            return None
        return Principal(row.id, row.name, row.scope)  # type: ignore[arg-type]  # its scope is one of the four

    def watch(self, token_id: str, on_end: Callable[[], object]) -> Callable[[], None]:
        """Call `on_end` once, when the token is revoked or expires; at once if it has ended already.

        The answer is a function that takes the watch back; it may be called again, also by `on_end`. Who watches lives
        no longer than the loop.
        """
        watch = self._watches.setdefault(token_id, _Watch())
        key = object()
        watch.callbacks[key] = on_end
        if watch.timer is None:
            self._look_after(token_id)
        return partial(self._unwatch, token_id, watch, key)

    def _unwatch(self, token_id: str, watch: "_Watch", key: object) -> None:
        watch.callbacks.pop(key, None)
        if not watch.callbacks and self._watches.get(token_id) is watch:
            del self._watches[token_id]
            watch.stop()

    def _look_after(self, token_id: str) -> None:
        """Tell those who watch a token that has ended; else look again when it expires."""
        watch, row = self._watches.get(token_id), self._rows.get(token_id)
        if watch is None:
            return
        watch.stop()
        if row is None or not self._active(row):
            del self._watches[token_id]
            for on_end in list(watch.callbacks.values()):
                on_end()
        elif row.expires_us is not None:
            left_s = (row.expires_us - self._ambient.clock.now_us()) / 1_000_000
            when_s = self._ambient.clock.monotonic() + min(left_s, _LOOK_S)
            watch.timer = self._ambient.clock.call_at(when_s, partial(self._look_after, token_id))

    def list(self) -> list[TokenRow]:
        """All, also the revoked and expired ones, by their making."""
        return sorted(self._rows.values(), key=lambda row: (row.created_us, row.id))

    async def create(
        self, name: str, scope: Scope, expires_us: Micros | None = None, *, token_id: str | None = None
    ) -> tuple[TokenRow, str]:
        """A new token and its secret, which nobody can ask for again.

        token_id  so that a repeated request is seen
        Raises    InvalidInput for a name or scope that cannot be, Conflict when the id exists, CommitFailed.
        """
        _check_name(name)
        if scope not in _RANKS:
            raise InvalidInput(f"scope is read, operate, define or admin, got {scope!r}")
        if expires_us is not None and expires_us <= self._ambient.clock.now_us():
            raise InvalidInput("a token expires in the future")
        if token_id in self._rows:
            raise Conflict("this Idempotency-Key has made a token already; its secret is told only once")
        if len(self._rows) >= _MAX_ROWS:
            raise Conflict(f"there are {_MAX_ROWS} tokens; no more can be made")
        return await self._make(name, scope, expires_us, token_id)

    async def revoke(self, token_id: str) -> TokenRow:
        """From its commit on the token opens nothing. Idempotent. Raises NotFound, CommitFailed."""
        row = self._rows.get(token_id)
        if row is None:
            raise NotFound("token", token_id, "`taskengine token list` shows them")
        if row.revoked_us is not None:
            return row
        revoked = msgspec.structs.replace(row, revoked_us=self._ambient.clock.now_us())
        await self._save(revoked)
        return revoked

    async def ensure_local(self, path: Path) -> None:
        """See that the local token's file and the database agree, so that programs of this user need no typing.

        A file that this database has not seen is registered; a missing file, or one whose token was revoked, is made
        anew. Any other local token is revoked, for its secret is lost.
        Raises InvalidConfiguration when the file holds no token, OSError, CommitFailed.
        """
        self._local = path
        secret = read_secret(path)
        row = None if secret is None else self._by_digest.get(digest_of(secret))
        if secret is None or (row is not None and not self._active(row)):
            await self.rotate_local()
            return
        if row is None:
            row, _ = await self._make(LOCAL_NAME, "admin", None, None, secret)
        await self._revoke_local(besides=row.id)

    async def rotate_local(self) -> TokenRow:
        """A new secret in the file; the old one opens nothing from now on.

        The new one is committed before the file names it and the old one is revoked after, so a crash in between leaves
        a file that works. Raises Conflict without a local token, OSError, CommitFailed.
        """
        if self._local is None:
            raise Conflict("this server keeps no local token file")
        row, secret = await self._make(LOCAL_NAME, "admin", None, None)
        write_secret(self._local, secret)
        await self._revoke_local(besides=row.id)
        return row

    async def _revoke_local(self, besides: str) -> None:
        for row in self.list():
            if row.name == LOCAL_NAME and row.id != besides and row.revoked_us is None:
                await self.revoke(row.id)

    async def _make(
        self, name: str, scope: Scope, expires_us: Micros | None, token_id: str | None, secret: str = ""
    ) -> tuple[TokenRow, str]:
        secret = secret or new_secret()
        row = TokenRow(
            id=token_id or self._ambient.ids.uuid7(),
            name=name,
            scope=scope,
            digest=digest_of(secret),
            created_us=self._ambient.clock.now_us(),
            expires_us=expires_us,
        )
        await self._save(row)
        return row, secret

    async def _save(self, row: TokenRow) -> None:
        await self._engine.save(row)
        self._keep(row)

    def _keep(self, row: TokenRow) -> None:
        self._rows[row.id] = row
        self._by_digest[row.digest] = row
        self._look_after(row.id)

    def _active(self, row: TokenRow) -> bool:
        alive = row.expires_us is None or self._ambient.clock.now_us() < row.expires_us
        return alive and row.revoked_us is None


class _Watch:
    """Those who want to know when one token ends, and the timer of its expiry."""

    def __init__(self) -> None:
        self.callbacks: dict[object, Callable[[], object]] = {}
        self.timer: TimerHandle | None = None

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _check_name(name: str) -> None:
    if name == LOCAL_NAME:
        raise InvalidInput(f"the name {LOCAL_NAME!r} belongs to the token in this server's file; choose another one")
    if not name or len(name) > _MAX_NAME or not name.isprintable() or name != name.strip():
        raise InvalidInput(f"a token's name has 1 to {_MAX_NAME} printable characters, got {name[:_MAX_NAME]!r}")
