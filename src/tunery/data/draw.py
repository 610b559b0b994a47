"""Draw: choosing rows at random, yet the same rows on every machine and in every run."""

from __future__ import annotations

import hashlib


def draw_key(seed: int, *parts: str | int) -> str:
    """Return a key to sort by: uniform over things, fixed for one thing and seed.

    A lower limit draws a subset of what a higher one draws, because the order does not depend on it.
    """
    text = "\x1f".join(map(str, (seed, *parts)))
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()
