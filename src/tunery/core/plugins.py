"""Kinds of which one more is one more file: the files of a package, found by walking it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from tunery.core.errors import NotFoundError


def plugin_names(package: str) -> tuple[str, ...]:
    """Return the names of a package's files, sorted; none of them is loaded.

    Files that serve the others are no members; the package lists them as ``SHARED``.
    """
    walked = importlib.import_module(package)
    shared = getattr(walked, "SHARED", ())
    return tuple(name for name in _files(tuple(walked.__path__)) if name not in shared)


@cache
def _files(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules of these folders, sorted; kept, since one run asks hundreds of times."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path)))


def load_plugin(package: str, kind: str, name: str) -> Any:
    """Return a package's member as a module.

    Args:
        package: Its dotted name.
        kind: What its members are, for the message.
        name: Of the member; what is no member is never imported.

    Raises:
        NotFoundError: There is no such member; says which there are.
    """
    known = plugin_names(package)
    if name not in known:
        raise NotFoundError.of(kind, name, known)
    return importlib.import_module(f"{package}.{name}")
