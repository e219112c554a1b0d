"""Print one package of uv.lock as a pip requirement with its hashes.

It is how a machine without uv gets the locked uv. Runs before anything is installed, so: standard library only.
"""

import sys
import tomllib
from pathlib import Path


def locked_requirement(lock: str, name: str) -> str:
    """The requirement `name==version` with every wheel's hash. Exits when the lock does not have the package."""
    for package in tomllib.loads(lock)["package"]:
        if package["name"] == name:
            hashes = [f"--hash={wheel['hash']}" for wheel in package["wheels"]]
            return " ".join([f"{name}=={package['version']}", *hashes])
    sys.exit(f"uv.lock has no package {name!r}")


if __name__ == "__main__":
    print(locked_requirement(Path("uv.lock").read_text(encoding="utf-8"), sys.argv[1]))
