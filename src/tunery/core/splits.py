"""The splits of a dataset version; a module without imports, because ``tunery --help`` names them."""

from __future__ import annotations

from typing import Literal

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
