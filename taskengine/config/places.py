"""Where this user's runs, databases and notes of running servers lie."""

import os
from pathlib import Path

__all__ = ["data_folder", "servers_folder"]


def data_folder() -> Path:
    """`$TASKENGINE_HOME`, else `taskengine` in the XDG data folder. Need not exist."""
    home = os.environ.get("TASKENGINE_HOME")
    if home:
        return Path(home).expanduser().absolute()
    # The XDG rules: a relative path there is to be ignored.
    data = Path(os.environ.get("XDG_DATA_HOME") or "-")
    return (data if data.is_absolute() else Path("~/.local/share").expanduser()) / "taskengine"


def servers_folder() -> Path:
    """Where each running server of this user leaves a note. Need not exist."""
    return data_folder() / "servers"
