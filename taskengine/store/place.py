"""Where a database file lives: its folder, its file modes, and whether locks can be trusted there."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from taskengine.errors import InvalidConfiguration

__all__ = ["make_file", "mount_type", "network_type", "refuse_network", "resolve"]

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "smb2"}
    | {"smb3", "smbfs", "sshfs", "webdav", "davfs", "davfs2", "rclone", "s3fs", "gcsfuse", "goofys", "blobfuse2"}
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def resolve(path: str | os.PathLike[str]) -> Path:
    """The file's own absolute name, without links: two names of one file share its lock."""
    return Path(path).expanduser().resolve()


def make_file(path: Path) -> None:
    """An empty file for nobody else's eyes, in folders alike where they are missing. What is there stays as it is.

    SQLite gives its log the mode of the database, so this one decides for all of them.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def refuse_network(path: Path) -> None:
    """Raises InvalidConfiguration where the file would be on a network file system; says nothing where that is
    unknown."""
    try:
        mounts = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:  # not Linux
        return
    kind = network_type(mount_type(path, mounts))
    if kind:
        raise InvalidConfiguration(
            f"{path} is on a network file system ({kind}), where SQLite's locks and its shared memory do not work; "
            "put the database on a local disk, or insist with allow_network"
        )


def mount_type(path: Path, mounts: Iterable[str]) -> str:
    """Type of the file system of an absolute path, by the lines of mountinfo (proc(5)); the last fitting mount is
    the one on top."""
    best, found = -1, ""
    for line in mounts:
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) < 5 or not tail:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if (path == point or point in path.parents) and len(point.parts) >= best:
            best, found = len(point.parts), tail.split(" ")[0]
    return found


def network_type(kind: str) -> str:
    """The type if it is one of a network, else nothing; `fuse.sshfs` counts by what follows the dot."""
    return kind if kind.removeprefix("fuse.") in _NETWORK else ""
