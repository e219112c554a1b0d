"""uv.lock names the public index and nothing else: a private mirror in it would lock everybody out."""

import re
from pathlib import Path

import pytest

HOSTS = {"pypi.org", "files.pythonhosted.org"}


def _hosts(lock: str) -> set[str]:
    """Every host of an address, user and port included, and `file` for a path on somebody's disk."""
    hosts = set(re.findall(r"\w+://([^/\"]*)", lock))
    return hosts | ({"file"} if re.search(r"source = \{ (path|directory) =|\bpath = \"", lock) else set())


def test_lock_uses_the_public_index_only(project: Path) -> None:
    assert _hosts((project / "uv.lock").read_text()) == HOSTS


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ('source = { registry = "https://mirror.example/simple" }', "mirror.example"),
        ('source = { registry = "https://user:secret@pypi.org/simple" }', "user:secret@pypi.org"),
        ('    { url = "http://files.example:8080/a.whl" },', "files.example:8080"),
        ('source = { git = "ssh://git@forge.example/a" }', "git@forge.example"),
        ('    { path = "/opt/wheels/a.whl" },', "file"),
        ('source = { directory = "../a" }', "file"),
    ],
)
def test_another_host_is_found(line: str, host: str) -> None:
    assert _hosts(line) == {host}
