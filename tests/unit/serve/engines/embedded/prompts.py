"""Token ids for engine tests."""

from __future__ import annotations

import random


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    """Return reproducible ids without special ones."""
    source = random.Random(seed)
    return tuple(source.randrange(3, 300) for _ in range(length))
