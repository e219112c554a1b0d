"""The artifact stores: the same laws for a folder, a bucket and memory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskengine.clock import ManualClock, SystemClock
from taskengine.errors import InvalidConfiguration, StoreCorrupt, StoreUnavailable
from taskengine.model.artifacts import ArtifactRef, digest_of, is_reference, reference, referred
from taskengine.store.artifacts import BucketArtifacts, FolderArtifacts, MemoryArtifacts, default_folder, open_artifacts

FUTURE_US = 1 << 60
PLACES: dict[str, Callable[[Path], Any]] = {
    "folder": lambda folder: FolderArtifacts(folder / "artifacts"),
    "bucket": lambda folder: BucketArtifacts(f"local://{folder}/bucket/deep"),
    "memory": lambda folder: MemoryArtifacts(SystemClock()),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return PLACES[request.param](tmp_path)


async def test_what_was_put_is_got(place: Any) -> None:
    for content in (b"", b"{}", "大".encode() * 100_000):
        ref = await place.put(content)
        assert ref == ArtifactRef(digest_of(content), len(content))
        assert await place.get(ref) == content


async def test_the_same_content_is_there_once(place: Any) -> None:
    one, other = await place.put(b"x"), await place.put(b"x")
    assert one == other
    assert await place.older(FUTURE_US) == [one.digest]


async def test_what_is_not_there_is_corrupt(place: Any) -> None:
    with pytest.raises(StoreCorrupt, match="gone"):
        await place.get(ArtifactRef("0" * 64, 1))


async def test_removing_frees_and_is_idempotent(place: Any) -> None:
    kept, gone = await place.put(b"kept"), await place.put(b"gone")
    assert await place.remove(gone.digest, FUTURE_US) == 4
    assert await place.remove(gone.digest, FUTURE_US) == 0
    assert await place.older(FUTURE_US) == [kept.digest]
    assert await place.get(kept) == b"kept"


async def test_what_was_put_lately_is_neither_old_nor_removed(place: Any) -> None:
    ref = await place.put(b"new")
    assert await place.older(1) == []
    assert await place.remove(ref.digest, 1) == 0
    assert await place.get(ref) == b"new"


async def test_putting_again_makes_it_young(tmp_path: Path) -> None:
    """Else it would be taken away from under the row that is about to name it."""
    place = FolderArtifacts(tmp_path)
    ref = await place.put(b"x")
    path = tmp_path / ref.digest[:2] / ref.digest[2:]
    os.utime(path, (1, 1))
    assert await place.older(2_000_000) == [ref.digest]
    await place.put(b"x")
    assert await place.older(2_000_000) == []
    assert await place.remove(ref.digest, 2_000_000) == 0


async def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (story.append(_kind(fd)), sync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (story.append("name"), replace(a, b))[1])
    await FolderArtifacts(tmp_path / "a").put(b"x")
    assert story == ["file", "name", "folder", "folder"]


def _kind(fd: int) -> str:
    return "folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"


async def test_files_are_for_nobody_else(tmp_path: Path) -> None:
    ref = await FolderArtifacts(tmp_path / "a").put(b"x")
    path = tmp_path / "a" / ref.digest[:2] / ref.digest[2:]
    assert [each.stat().st_mode & 0o777 for each in (path, path.parent)] == [0o600, 0o700]


async def test_a_file_that_was_changed_is_found_out(tmp_path: Path) -> None:
    place = FolderArtifacts(tmp_path)
    ref = await place.put(b"x")
    (tmp_path / ref.digest[:2] / ref.digest[2:]).write_bytes(b"y")
    with pytest.raises(StoreCorrupt, match="not the content"):
        await place.get(ref)


async def test_a_draft_that_a_crash_left_is_collected(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / ("c" * 62 + ".part")).write_bytes(b"half")
    place = FolderArtifacts(tmp_path)
    assert await place.older(FUTURE_US) == ["ab" + "c" * 62]
    assert await place.remove("ab" + "c" * 62, FUTURE_US) == 4


async def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="artifacts in"):
        await FolderArtifacts(tmp_path / "file").put(b"x")


@pytest.mark.parametrize(
    ("url", "dsn", "kind"),
    [
        ("", "memory://", MemoryArtifacts),
        ("memory://", "data/engine.db", MemoryArtifacts),
        ("", "data/engine.db", FolderArtifacts),
        ("", "postgresql://u@h/d", FolderArtifacts),
        ("some/folder", "memory://", FolderArtifacts),
        ("file:///some/folder", "memory://", FolderArtifacts),
        ("local:///some/folder", "memory://", BucketArtifacts),
    ],
)
def test_the_place_follows_from_the_address(url: str, dsn: str, kind: type) -> None:
    assert isinstance(open_artifacts(url, dsn, ManualClock()), kind)


def test_beside_the_file_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for dsn in ("data/engine.db", "sqlite:///./data/engine.db", f"sqlite://{tmp_path}/data/engine.db"):
        made = open_artifacts("", dsn, ManualClock())
        assert isinstance(made, FolderArtifacts)
        assert made.folder == tmp_path / "data" / "engine.db.artifacts"


def test_no_two_databases_share_a_place_by_default() -> None:
    """Else each would collect what the other one's rows name."""
    named = ["a.db", "b.db", "postgresql://u@h/d", "postgresql://u@h/e", "postgresql://u@g/d", "mysql://h/d"]
    named.append("postgresql://u@h:5433/d")
    assert len({default_folder(dsn) for dsn in named}) == len(named)
    assert default_folder("postgresql://u:p@h/d?sslmode=require") == default_folder("postgres://v@H:5432/d")


async def test_one_database_does_not_collect_what_another_one_keeps(tmp_path: Path) -> None:
    clock = ManualClock()
    mine, other = (open_artifacts("", str(tmp_path / name), clock) for name in ("a.db", "b.db"))
    ref = await other.put(b"kept by b")
    assert await mine.older(FUTURE_US) == []
    assert await other.get(ref) == b"kept by b"


def test_an_address_that_nobody_knows_is_told() -> None:
    with pytest.raises(InvalidConfiguration, match="artifacts at nowhere"):
        open_artifacts("nowhere://x", "memory://", ManualClock())


def test_a_reference_is_no_json_and_comes_back() -> None:
    ref = ArtifactRef("a" * 64, 12345)
    assert is_reference(reference(ref))
    assert referred(reference(ref)) == ref
    assert not is_reference(b'"@sha256:"')
    with pytest.raises(ValueError, match="no reference"):
        referred(b"@sha256:abc:1")
