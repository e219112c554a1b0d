"""Where large results lie: content under the hash of itself, in a folder, in a bucket, or in memory.

Content is durable before a row names it. A crash in between leaves content that nobody names; the collector takes it
away after a day. The same content put again is the same file, whose age begins anew, so that nothing is taken away from
under a row that is just being written.
"""

import asyncio
import os
import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from taskengine.clock import Clock, Micros
from taskengine.config.dsn import database_kind, shown_dsn
from taskengine.config.places import data_folder
from taskengine.errors import InvalidConfiguration, StoreCorrupt, StoreUnavailable
from taskengine.model.artifacts import ArtifactRef, digest_of

__all__ = ["Artifacts", "BucketArtifacts", "FolderArtifacts", "MemoryArtifacts", "default_folder", "open_artifacts"]

_T = TypeVar("_T")

_DRAFT: Final = ".part"
_PORTS: Final = {"postgresql": 5432, "mysql": 3306}
_UNSAFE: Final = re.compile(r"[^\w.]+")


class Artifacts(Protocol):
    """All verbs may be called by anyone on the loop's thread, at the same time. They raise StoreUnavailable when the
    place cannot be reached or is full."""

    async def put(self, content: bytes) -> ArtifactRef:
        """On return it is durable. What is there already is kept, and counts as put now."""
        ...

    async def get(self, ref: ArtifactRef) -> bytes:
        """Raises StoreCorrupt when it is not there, or is not what its name says."""
        ...

    async def older(self, before_us: Micros) -> list[str]:
        """Digests of what was put last before that time."""
        ...

    async def remove(self, digest: str, before_us: Micros) -> int:
        """Unless it has been put since; gives the bytes that are free now."""
        ...


def open_artifacts(url: str, dsn: str, clock: Clock) -> Artifacts:
    """The place that `url` names; empty: a folder of the database's own, see `default_folder`.

    It belongs to one database: what no row of that one names is collected.

    url     a folder, `file:///path`, `memory://`, or an address of fsspec such as `s3://bucket/prefix`
    Raises  InvalidConfiguration. Nothing is touched yet.
    """
    scheme, mark, _ = url.partition("://")
    if url and not mark:
        return FolderArtifacts(Path(url).expanduser())
    if scheme == "file":
        return FolderArtifacts(Path(unquote(urlsplit(url).path)))
    if scheme == "memory" or (not url and database_kind(dsn) == "memory"):
        return MemoryArtifacts(clock)
    if url:
        return BucketArtifacts(url)
    return FolderArtifacts(default_folder(dsn))


def default_folder(dsn: str) -> Path:
    """`engine.db.artifacts` beside the file `engine.db`; for a server `artifacts/` and the database's name in the data
    folder, whoever logs in and with which options. Several databases in one folder do not collect from each other."""
    kind = database_kind(dsn)
    if kind != "sqlite":
        parts = urlsplit(dsn)
        name = f"{kind} {parts.hostname} {parts.port or _PORTS.get(kind or '')} {unquote(parts.path)}"
        return data_folder() / "artifacts" / _UNSAFE.sub("-", name)
    path = unquote(urlsplit(dsn).path) if "://" in dsn else dsn
    if "://" in dsn and path.startswith(("/./", "/../", "/~")):
        path = path[1:]
    file = Path(path).expanduser().resolve()
    return file.with_name(f"{file.name}.artifacts")


def _checked(content: bytes, ref: ArtifactRef, where: str) -> bytes:
    if len(content) != ref.size or digest_of(content) != ref.digest:
        raise StoreCorrupt(f"{where} is not the content that its name says: it was changed or cut off")
    return content


class FolderArtifacts:
    """Files `ab/cdef…` in a folder, 0600. One process puts and removes; others may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._lock = threading.Lock()

    async def put(self, content: bytes) -> ArtifactRef:
        return await self._work(lambda: self._put(content))

    def _put(self, content: bytes) -> ArtifactRef:
        ref = ArtifactRef(digest_of(content), len(content))
        path = self._path(ref.digest)
        with self._lock:
            if path.exists():
                os.utime(path)
                return ref
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_name(path.name + _DRAFT)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
            for folder in (path.parent, self.folder):  # the names must last as well
                _sync_folder(folder)
        return ref

    async def get(self, ref: ArtifactRef) -> bytes:
        path = self._path(ref.digest)

        def read() -> bytes:
            try:
                return _checked(path.read_bytes(), ref, str(path))
            except FileNotFoundError:
                raise StoreCorrupt(f"{path} is gone, and a result lies there") from None

        return await self._work(read)

    async def older(self, before_us: Micros) -> list[str]:
        def look() -> list[str]:
            found = []
            for shelf in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
                for entry in os.scandir(shelf):
                    if entry.stat().st_mtime_ns // 1000 < before_us:
                        found.append(shelf.name + entry.name.removesuffix(_DRAFT))
            return found

        return await self._work(look)

    async def remove(self, digest: str, before_us: Micros) -> int:
        def take_away() -> int:
            freed = 0
            with self._lock:
                path = self._path(digest)
                for each in (path, path.with_name(path.name + _DRAFT)):
                    if each.exists() and each.stat().st_mtime_ns // 1000 < before_us:
                        freed += each.stat().st_size
                        each.unlink()
            return freed

        return await self._work(take_away)

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest[2:]

    async def _work(self, work: Callable[[], _T]) -> _T:
        return await _in_thread(work, str(self.folder))


class BucketArtifacts:
    """Objects `prefix/ab/cdef…` at an address of fsspec. Its own credentials: nothing of them is in our settings."""

    def __init__(self, url: str) -> None:
        self._where = shown_dsn(url)
        try:
            import fsspec
        except ImportError:
            raise InvalidConfiguration(
                f"artifacts at {self._where} need the package fsspec, and for s3:// s3fs: "
                "install taskengine[s3], or name a folder"
            ) from None
        try:
            files, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as exc:
            raise InvalidConfiguration(f"artifacts at {self._where}: {exc}") from exc
        self._files: Any = files
        self._root = str(root).rstrip("/")

    async def put(self, content: bytes) -> ArtifactRef:
        ref = ArtifactRef(digest_of(content), len(content))
        # Also what is there: an object has no time that could be moved but that of its writing.
        await self._work(lambda: self._write(self._path(ref.digest), content))
        return ref

    def _write(self, path: str, content: bytes) -> None:
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, content)

    async def get(self, ref: ArtifactRef) -> bytes:
        path = self._path(ref.digest)

        def read() -> bytes:
            try:
                return _checked(bytes(self._files.cat_file(path)), ref, f"{self._where}: {ref.digest}")
            except FileNotFoundError:
                raise StoreCorrupt(f"{self._where}: {ref.digest} is gone, and a result lies there") from None

        return await self._work(read)

    async def older(self, before_us: Micros) -> list[str]:
        def look() -> list[str]:
            self._files.invalidate_cache()
            names = self._files.find(self._root) if self._files.exists(self._root) else []
            return ["".join(name.split("/")[-2:]) for name in names if self._put_us(name) < before_us]

        return await self._work(look)

    async def remove(self, digest: str, before_us: Micros) -> int:
        path = self._path(digest)

        def take_away() -> int:
            if not self._files.exists(path) or self._put_us(path) >= before_us:
                return 0
            size = int(self._files.size(path) or 0)
            self._files.rm_file(path)
            return size

        return await self._work(take_away)

    def _put_us(self, path: str) -> int:
        at: datetime
        try:
            at = self._files.modified(path)
        except NotImplementedError:
            at = self._files.created(path)
        return round(at.timestamp() * 1_000_000)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    async def _work(self, work: Callable[[], _T]) -> _T:
        return await _in_thread(work, self._where)


class MemoryArtifacts:
    """For a store in memory: gone with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[bytes, Micros]] = {}

    async def put(self, content: bytes) -> ArtifactRef:
        ref = ArtifactRef(digest_of(content), len(content))
        self._kept[ref.digest] = (content, self._clock.now_us())
        return ref

    async def get(self, ref: ArtifactRef) -> bytes:
        kept = self._kept.get(ref.digest)
        if kept is None:
            raise StoreCorrupt(f"the artifact {ref.digest} is gone")
        return kept[0]

    async def older(self, before_us: Micros) -> list[str]:
        return [digest for digest, (_, put_us) in self._kept.items() if put_us < before_us]

    async def remove(self, digest: str, before_us: Micros) -> int:
        content, put_us = self._kept.get(digest, (b"", before_us))
        if put_us >= before_us:
            return 0
        del self._kept[digest]
        return len(content)


async def _in_thread(work: Callable[[], _T], where: str) -> _T:
    """Files may be on a slow disk or far away: never on the loop."""
    try:
        return await asyncio.to_thread(work)
    except OSError as exc:
        raise StoreUnavailable(f"artifacts in {where}: {exc.strerror or exc}") from exc


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
