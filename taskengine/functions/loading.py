"""Finding functions by import path, and importing a file of the user's under its own name."""

import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from taskengine.errors import InvalidConfiguration

__all__ = ["home_of", "import_file", "import_named", "resolve"]


def home_of(function: Callable[..., Any]) -> tuple[str, str]:
    """`module:qualname`, and the file to import it from if that is a script.

    The path has a `<` where no import could find it again: lambdas, functions inside functions, partials.
    """
    bare = function.func if isinstance(function, functools.partial) else function
    module = getattr(bare, "__module__", None) or "<unknown>"
    qualname = getattr(bare, "__qualname__", None)
    if qualname is None or bare is not function:
        qualname = f"<{type(function).__qualname__}>"
    script = getattr(sys.modules["__main__"], "__file__", None) if module == "__main__" else None
    # A script is known to others by its file name only; `__main__` would be their own.
    return (f"{Path(script).stem}:{qualname}", str(Path(script).resolve())) if script else (f"{module}:{qualname}", "")


def resolve(path: str, origin: str = "") -> Callable[..., Any]:
    """The function of that path; its module is imported, from the file `origin` if there is one.

    Raises InvalidConfiguration when the module or the name is not there.
    """
    module_name, _, qualname = path.partition(":")
    found: Any = import_file(Path(origin)) if origin else import_named(module_name)
    for part in qualname.split("."):
        if not hasattr(found, part):
            raise InvalidConfiguration(f"{module_name} has no {qualname}")
        found = getattr(found, part)
    if not callable(found):
        raise InvalidConfiguration(f"{path} is no function")
    function: Callable[..., Any] = found
    return function


def import_named(name: str) -> ModuleType:
    """Import a module by its dotted name. Raises InvalidConfiguration that says why and where."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise InvalidConfiguration(f"module {name!r} cannot be imported: {_reason(error)}") from error


def import_file(path: Path) -> ModuleType:
    """Import a file as the module of its stem, once; its folder goes to the end of `sys.path`.

    Raises InvalidConfiguration when there is no such file, when its name belongs to another module already, or with
    what it raised and where.
    """
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and _file_of(known) == path:
        return known
    if not path.is_file():
        raise InvalidConfiguration(f"{path}: no such file")
    if known is not None or path.stem in sys.stdlib_module_names:
        raise InvalidConfiguration(f"{path}: a module named {path.stem!r} exists already; give the file another name")
    if str(path.parent) not in sys.path:
        # At the end: a file of the user's must not hide a module that the engine still has to import.
        sys.path.append(str(path.parent))
    return _execute(path)


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InvalidConfiguration(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[path.stem]
        raise InvalidConfiguration(f"{path} cannot be imported: {_reason(error)}") from error
    return module


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _reason(error: BaseException) -> str:
    """The exception and the last line of the user's that led to it."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error}"
    text = f"{type(error).__name__}: {error}"
    lines = [
        line
        for line in traceback.extract_tb(error.__traceback__)
        if line.filename != __file__ and "importlib" not in line.filename
    ]
    return f"{text} ({lines[-1].filename}:{lines[-1].lineno})" if lines else text
