"""Thirty preference pairs that are easily told apart, and the recipe that learns from them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.pipeline.recipe import Recipe, parse_recipe

COLOURS, THINGS = ("red", "blue", "green", "grey", "pink", "black"), ("car", "door", "hat", "cup", "pen")
PAIRS = [
    {
        "input": {"messages": [{"role": "user", "content": f"Is the {colour} {thing} for sale?"}]},
        "preferred_output": [{"role": "assistant", "content": f"yes, the {thing}"}],
        "non_preferred_output": [{"role": "assistant", "content": f"no {thing} at all"}],
    }
    for colour, thing in itertools.product(COLOURS, THINGS)
]


UNPAIRED = [
    {"prompt": pair["input"]["messages"], "completion": pair[side], "label": liked}
    for pair in PAIRS
    for side, liked in (("preferred_output", True), ("non_preferred_output", False))
]
"""The same answers one by one, as TRL has unpaired preferences."""


def pair_recipe(
    base: Path, folder: Path, *, rows: Sequence[Mapping[str, Any]] = PAIRS, **train: Any
) -> Recipe:
    """Write rows into ``folder`` and return a recipe: six validate, six are the test."""
    (folder / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in rows), encoding="utf-8")
    settings = {"rank": 4, "epochs": 3, "batch_size": 6, "device": "cpu", "threads": 1}
    values = {
        "name": "polite",
        "goal": {"metric": "exact_match", "target": 0.5},
        "base": str(base),
        "data": {
            "sources": [{"path": "pairs.jsonl"}],
            "split": {"test": 6, "validation": 6},
            "clean": {"near_duplicates": False},
        },
        "train": {**settings, **train},
        "evaluate": {
            "suites_off": "not tested here",
            "max_new_tokens": 4,
            "baseline": {"few_shot": False, "constrained": False},
        },
    }
    return parse_recipe(values, where="recipe")
