"""The splits of a dataset version; apart from its rows, so that a command line can name them at no cost."""

from __future__ import annotations

from typing import Literal

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
