"""The benchmark's spoiled rows: exactly as bad as asked, in the same way every time."""

import importlib.util
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

PATH = Path(__file__).parents[3] / "benchmarks" / "spoil.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spoil", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["spoil"] = module  # NamedTuples look their module up
    spec.loader.exec_module(module)
    return module


spoil = load()
TEXTS = [f"why was my card number {i} declined at the shop" for i in range(60)]
LABELS = ["a", "b", "c"] * 20
OTHER = {"a": "b", "b": "a", "c": "a"}


@pytest.mark.parametrize("seed", range(3))
def test_as_many_rows_are_spoiled_as_asked_for(seed: int) -> None:
    shares = spoil.Shares(wrong=0.2, copies=0.3, junk=0.05)
    rows = spoil.spoil(TEXTS, LABELS, random.Random(seed), other=OTHER, shares=shares)
    assert Counter(r.fault for r in rows) == {"": 48, "label": 12, "near_duplicate": 18, "junk": 3}
    for row in rows:
        if row.fault == "label":
            assert row.label == OTHER[row.truth]
        if row.fault == "":
            assert row.label == row.truth
            assert (row.text, row.label) in zip(TEXTS, LABELS, strict=True)
    assert rows == spoil.spoil(TEXTS, LABELS, random.Random(seed), other=OTHER, shares=shares)


@given(
    words=st.lists(st.sampled_from(["can", "i", "get", "money", "Card", "a", "now"]), min_size=1, max_size=9),
    end=st.sampled_from(["", "?", "."]),
    seed=st.integers(0, 10_000),
)
def test_a_near_duplicate_is_never_the_same_text(words: list[str], end: str, seed: int) -> None:
    text = " ".join(words) + end
    edited = spoil.reworded(text, random.Random(seed))
    assert edited != text
    assert edited.strip()


def test_classes_that_share_words_are_confused_with_each_other() -> None:
    rng = random.Random(0)
    words = {
        "card lost": "card lost missing find gone wallet",
        "card stolen": "card stolen missing find gone thief",
        "rate": "exchange euro dollar rate pound bank",
        "fee": "exchange euro dollar fee charge bank",
    }
    rows = [(" ".join(rng.sample(w.split(), 3)), label) for label, w in words.items() for _ in range(30)]
    other = spoil.most_confusable([t for t, _ in rows], [label for _, label in rows])
    assert other == {"card lost": "card stolen", "card stolen": "card lost", "rate": "fee", "fee": "rate"}
