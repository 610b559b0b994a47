"""Deduplication of rows: those that repeat an earlier one go, and those that resemble one are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from tunery.core.errors import listed
from tunery.core.example import Drop
from tunery.core.figures import percent
from tunery.data.decisions import Curated
from tunery.data.dedup.near import AnswerKeys, near_keepers
from tunery.data.workers import spread
from tunery.text.minhash import (
    SAMPLE,
    Integers,
    Pairs,
    Sketch,
    close_pairs,
    combined,
    common_shingles,
    first_of_key,
    make_sketch,
)


class NearRows(NamedTuple):
    """Rows whose prompts resemble each other."""

    pairs: Pairs
    """Similar rows, by position."""
    repeats: dict[int, Drop]
    """Position of each row that repeats an earlier one to why it goes."""


def drop_exact(curated: Curated) -> Integers:
    """Remove rows whose prompt and answer repeat an earlier row's; return pairs of equal prompts.

    Prompts are compared by fingerprint, answers letter by letter. Equal prompts with different answers
    both stay: which of them is right is for a person to say.
    """
    kept = curated.kept
    first = first_of_key(curated.rows.numbers("row_key")[kept])
    repeats = np.flatnonzero(first != np.arange(len(kept)))
    same = first_of_key(curated.rows.numbers("prompt_key")[kept])
    others = np.flatnonzero((same != np.arange(len(kept))) & (first == np.arange(len(kept))))
    if len(others):
        curated.warnings.append(_conflicts(curated, kept[same[others]], kept[others]))
    if curated.config.clean.exact_duplicates:
        curated.drop(
            {
                int(kept[i]): Drop("exact_duplicate", f"repeats {curated.where(int(kept[first[i]]))}")
                for i in repeats
            }
        )
    else:
        others = np.flatnonzero(same != np.arange(len(kept)))
    return np.stack([kept[same[others]], kept[others]], axis=1)


def _conflicts(curated: Curated, first: Integers, second: Integers) -> str:
    number = curated.row_number
    some = [f"rows {number(a)} and {number(b)}" for a, b in zip(first[:5], second[:5], strict=True)]
    pairs = listed(some, 5, total=len(first))
    what = "1 prompt has" if len(first) == 1 else f"{len(first)} prompts have"
    return f"{what} different answers in different rows ({pairs}); all are kept, in one split"


def find_near(curated: Curated) -> NearRows:
    """Find rows that resemble each other, among those that :func:`drop_exact` left."""
    clean = curated.config.clean
    none = np.empty(0, dtype=np.int64)
    if clean.near_duplicates == "off":
        return NearRows(Pairs(none, none, np.empty(0)), {})
    # Equal prompts are the exact search's business: what it left stays, because the answers differ.
    texts = curated.rows.numbers("text_key")[curated.kept]
    first = first_of_key(texts)
    originals = curated.kept[np.flatnonzero(first == np.arange(len(first)))]
    repeats = np.flatnonzero(first != np.arange(len(first)))
    same = Pairs(curated.kept[first[repeats]], curated.kept[repeats], np.ones(len(repeats)))
    sketch = _sketch(curated, originals)
    pairs = close_pairs(sketch, clean.group_threshold)
    drops = {}
    if clean.near_duplicates == "drop":
        keepers = near_keepers(pairs, _answers(curated, originals), sketch, drop_from=clean.near_threshold)
        for second, keeper in keepers.items():
            where = curated.where(int(originals[keeper.row]))
            drops[int(originals[second])] = Drop(
                "near_duplicate", f"{percent(keeper.similarity)} like {where}, with the same answer"
            )
    near = Pairs(originals[pairs.first], originals[pairs.second], pairs.similarity)
    return NearRows(Pairs(*(np.concatenate(columns) for columns in zip(same, near, strict=True))), drops)


def _sketch(curated: Curated, originals: Integers) -> Sketch:
    rows = curated.rows
    sample = originals[:: max(1, len(originals) // SAMPLE)]
    common = common_shingles(rows.column("text").take(sample).to_pylist())
    sketches = spread(make_sketch, rows.texts(originals), common, engine=curated.config.engine)
    characters = pc.sum(pc.utf8_length(rows.column("text"))).as_py()
    return combined(sketches, texts=len(originals), characters=characters)


def _answers(curated: Curated, originals: Integers) -> AnswerKeys:
    rows = curated.rows
    numbers, turns, exact = (rows.numbers(n)[originals] for n in ("numbers_key", "turns", "answer_key"))
    if curated.labels is not None:
        return AnswerKeys(numbers, turns, exact, None)

    def texts(i: int) -> Sequence[str]:
        (example,) = rows.examples([int(originals[i])])
        return (example.reference, example.rejected or "")

    return AnswerKeys(numbers, turns, exact, texts)
