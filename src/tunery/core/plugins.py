"""Kinds of which one more is one more file: the files of a package, found by walking it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from tunery.core.errors import NotFoundError


def plugin_names(package: str) -> tuple[str, ...]:
    """Return the names of a package's files, sorted; none of them is loaded.

    Files that serve the others are no members; the package lists them as ``SHARED``.
    """
    walked = importlib.import_module(package)
    shared = getattr(walked, "SHARED", ())
    return tuple(sorted(m.name for m in pkgutil.iter_modules(walked.__path__) if m.name not in shared))


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
