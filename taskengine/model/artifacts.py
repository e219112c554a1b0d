"""How a row names what lies in the artifact store: the hash of its content and its size."""

import hashlib
import re
from typing import Final

import msgspec

__all__ = ["ArtifactRef", "digest_of", "is_reference", "reference", "referred"]

_MARK: Final = b"@sha256:"
_WRITTEN: Final = re.compile(rb"@sha256:([0-9a-f]{64}):([0-9]{1,15})")


class ArtifactRef(msgspec.Struct, frozen=True, gc=False):
    """SHA-256 in hex, and bytes."""

    digest: str
    size: int


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reference(ref: ArtifactRef) -> bytes:
    """What stands in the column of a result instead of the result. No JSON begins so, in any database."""
    return b"%s%s:%d" % (_MARK, ref.digest.encode(), ref.size)


def is_reference(result: bytes) -> bool:
    """Cheap: it looks at the first character."""
    return result[:1] == b"@"


def referred(result: bytes) -> ArtifactRef:
    """Raises ValueError for what is no reference."""
    found = _WRITTEN.fullmatch(result)
    if found is None:
        raise ValueError(f"no reference to an artifact: {result[:80]!r}")
    return ArtifactRef(found[1].decode(), int(found[2]))
