"""The runs on this machine: a folder each under the data folder, with what is needed to go on with it.

    <data folder>/runs/<instance id>/run.json       how it was started
                                     taskengine.db  its store, unless `--db` named another

The folder's name is the instance's id. A run that died before its first commit leaves a folder without an instance.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from taskengine.clock import Micros
from taskengine.config.places import data_folder
from taskengine.errors import InvalidInput, NotFound, StoreLocked
from taskengine.model.ids import InstanceId
from taskengine.store.lock import FileLock, holder_of

__all__ = ["RunRecord", "Runs", "lasting_dsn"]

_RECORD: Final = "run.json"
_DATABASE: Final = "taskengine.db"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a run was started.

    dsn      of its store
    own      the store lies in the run's folder, and goes with it
    apps     absolute paths of the `--app` files
    workers  of `-j`, None: the default
    pools    of `--pool`, such as `api=5@50/s`
    file     what was run, for people
    """

    id: InstanceId
    dsn: str
    own: bool
    created_us: Micros
    apps: tuple[str, ...] = ()
    workers: int | None = None
    pools: tuple[str, ...] = ()
    file: str = ""


_DECODER: Final = msgspec.json.Decoder(RunRecord)


def lasting_dsn(dsn: str) -> str:
    """An address that means the same in another folder; empty for a store that ends with its process."""
    scheme, mark, rest = dsn.partition("://")
    if not mark:
        return os.path.abspath(os.path.expanduser(dsn)) if dsn else ""
    if scheme.lower() == "memory":
        return ""
    if scheme.lower() == "sqlite" and rest.startswith(("/./", "/../")):
        path, question, options = rest[1:].partition("?")
        return f"sqlite://{quote(os.path.abspath(unquote(path)))}{question}{options}"
    return dsn


class Runs:
    """The folders of all runs. Nothing is made before `create`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or data_folder()) / "runs"

    def plan(
        self,
        run_id: InstanceId,
        created_us: Micros,
        *,
        dsn: str | None = None,
        apps: tuple[str, ...] = (),
        workers: int | None = None,
        pools: tuple[str, ...] = (),
        file: str = "",
    ) -> RunRecord:
        """The record of a run that is to be; nothing is made. `dsn` None: a store of the run's own."""
        return RunRecord(
            id=run_id,
            dsn=str(self.folder / run_id / _DATABASE) if dsn is None else dsn,
            own=dsn is None,
            created_us=created_us,
            apps=apps,
            workers=workers,
            pools=pools,
            file=file,
        )

    def create(self, record: RunRecord) -> None:
        """Make the run's folder, for nobody else's eyes, with the record in it. Raises OSError."""
        for folder in (self.folder.parent, self.folder, self.folder / record.id):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.save(record)

    def save(self, record: RunRecord) -> None:
        """Write the record; a crash leaves the old one or the new one."""
        path = self.folder / record.id / _RECORD
        draft = path.with_suffix(".new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(record)))
        os.replace(draft, path)

    def all(self) -> list[RunRecord]:
        """Newest first: ids sort by time. Folders without a readable record are passed over."""
        try:
            names = sorted((entry.name for entry in os.scandir(self.folder) if entry.is_dir()), reverse=True)
        except FileNotFoundError:
            return []
        return [record for name in names if (record := self._read(name)) is not None]

    def get(self, run_id: InstanceId) -> RunRecord | None:
        """The run of that id, which must be a whole id as a store knows it."""
        return self._read(run_id)

    def seems_abandoned(self, record: RunRecord) -> bool:
        """Whether nobody runs it: no process is noted in its lock, or that one is gone. For showing only."""
        pid = holder_of(Path(record.dsn)).pid if record.own else os.getpid()
        if not pid:
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's, and alive
            return False
        return False

    def is_locked(self, record: RunRecord) -> bool:
        """Whether a process has the run's own store; a moment later it may be otherwise."""
        if not record.own:
            return False
        lock = FileLock(Path(record.dsn))
        try:
            lock.acquire()
        except StoreLocked:
            return True
        except OSError:
            return False
        lock.release()
        return False

    def find(self, prefix: str) -> RunRecord:
        """The run whose id begins so. Raises NotFound, and InvalidInput when there are several."""
        wanted = prefix.lower()
        found = [record for record in self.all() if record.id.startswith(wanted)] if wanted else []
        if not found:
            raise NotFound("run", prefix, "`taskengine instance list --runs` shows what there is")
        if len(found) > 1 and found[0].id != wanted:
            shown = "\n  ".join(record.id for record in found[:10])
            raise InvalidInput(f"{len(found)} runs begin with {prefix}; type more of the id:\n  {shown}")
        return found[0]

    def remove(self, record: RunRecord) -> bool:
        """Delete the run's folder, unless a process has its store. Returns whether it is gone."""
        place = self.folder / record.id
        lock = FileLock(place / _DATABASE)
        try:
            lock.acquire()
        except (StoreLocked, OSError):
            return False
        try:
            with contextlib.suppress(OSError):
                shutil.rmtree(place)
        finally:
            lock.release()
        return not place.exists()

    def _read(self, name: str) -> RunRecord | None:
        try:
            record = _DECODER.decode((self.folder / name / _RECORD).read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        if record.id != name:
            return None
        # The data folder may have been moved, or be seen under another name from a container.
        return msgspec.structs.replace(record, dsn=str(self.folder / name / _DATABASE)) if record.own else record
