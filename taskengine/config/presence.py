"""Notes of running servers, so that commands on the same machine find them without being told.

A file each in the servers folder, 0600. The note of a server that was killed is passed over and removed by the next
one who looks, since its process is gone.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from taskengine.clock import Micros
from taskengine.config.places import servers_folder

__all__ = ["ServerNote", "live_servers", "remove_note", "write_note"]

_MAX_BYTES: Final = 65_536


class ServerNote(msgspec.Struct, frozen=True, kw_only=True):
    """One running server of this user.

    address     such as `http://127.0.0.1:8080`: where it can be reached from this machine
    token_file  the path of the local token
    store       the database's file, or its address without a password
    birth       when its process began, as the system counts; empty where that is not known
    """

    address: str
    pid: int
    token_file: str
    store: str
    started_us: Micros
    birth: str = ""


_NOTE: Final = msgspec.json.Decoder(ServerNote)


def write_note(note: ServerNote) -> Path:
    """Leave a note; gives its path for `remove_note`. Raises OSError."""
    folder = servers_folder()
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{note.pid}-{note.started_us}.json"
    draft = path.with_suffix(".new")
    noted = msgspec.structs.replace(note, birth=_birth(note.pid))
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(msgspec.json.encode(noted))
    os.replace(draft, path)
    return path


def remove_note(path: Path) -> None:
    """Take it away; again is fine."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def live_servers() -> list[ServerNote]:
    """Notes whose process is alive, the newest first."""
    try:
        paths = [path for path in servers_folder().iterdir() if path.suffix == ".json"]
    except OSError:
        return []
    found = []
    for path in paths:
        note = _read(path)
        if note is None:
            continue
        if _is_alive(note):
            found.append(note)
        else:
            remove_note(path)
    return sorted(found, key=lambda note: note.started_us, reverse=True)


def _read(path: Path) -> ServerNote | None:
    try:
        with path.open("rb") as stream:
            return _NOTE.decode(stream.read(_MAX_BYTES))
    except (OSError, msgspec.DecodeError):
        return None


def _is_alive(note: ServerNote) -> bool:
    if note.pid <= 0:
        return False
    try:
        os.kill(note.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and alive
    # Ids of processes come again: another one may have this one's by now.
    return not note.birth or _birth(note.pid) in ("", note.birth)


def _birth(pid: int) -> str:
    """The start time of a process in the kernel's ticks since boot, with the boot it counts from (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # not Linux
        return ""
    return f"{boot}/{stat.rpartition(')')[2].split()[19]}"
