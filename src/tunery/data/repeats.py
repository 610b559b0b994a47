"""Repeats: rows that say what another says go, and rows that resemble one another are tied together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from tunery.core.example import Drop
from tunery.data.curated import Curated
from tunery.data.dedup import Answers, follow_earliest, group_rows, near_keepers
from tunery.data.labels import find_labels
from tunery.data.split import by_hash, check_rows
from tunery.data.spread import spread
from tunery.text.minhash import (
    SAMPLE,
    Integers,
    Pairs,
    Sketch,
    SketchTask,
    close_pairs,
    combined,
    common_shingles,
    first_of_key,
    sketch_texts,
)

_LARGEST_GROUP = 8
_LARGEST_GROUP_SHARE = 50
"""A similarity group may hold one row in fifty (eight at least) before only strict pairs hold it together."""
_MOST_CLASSES_LOOKED_AT = 1000


def _largest_group(rows: int) -> int:
    """Return the size from which only strict pairs hold a group of so many rows together [rows]."""
    return max(_LARGEST_GROUP, rows // _LARGEST_GROUP_SHARE)


def remove_repeats(curated: Curated) -> None:
    """Remove repeats, tell the label set, and find which rows must share a split."""
    _Deduplication(curated).run()


class _Deduplication:
    """Removes repeats, tells the label set, and finds which rows must share a split."""

    def __init__(self, curated: Curated) -> None:
        self._curated = curated
        self._clean = curated.config.clean

    def run(self) -> None:
        curated, clean = self._curated, self._clean
        split = curated.config.split
        same_prompt = self._exact()
        check_rows(len(curated.kept), splitting=bool(split.test or split.validation))
        curated.labels = self._labels()
        near, keepers = self._near()
        # From here on rows go by their place among those that are left.
        place = np.full(len(curated.rows), -1, dtype=np.int64)
        place[curated.kept] = np.arange(len(curated.kept))
        links = place[same_prompt]
        near = Pairs(place[near.first], place[near.second], near.similarity)
        tied = self._tied()
        count, strict = len(curated.kept), clean.near_threshold
        if by_hash(split):
            same = Pairs(links[:, 0], links[:, 1], np.ones(len(links)))
            every = Pairs(*(np.concatenate(columns) for columns in zip(same, near, strict=True)))
            roots, curated.apart = follow_earliest(count, tied, every, largest=_largest_group, strict=strict)
        else:
            firm = np.concatenate([links, tied])
            roots = group_rows(count, firm, near, largest=_largest_group(count), strict=strict)
        curated.groups = curated.kept[roots]
        curated.apart = Pairs(
            curated.kept[curated.apart.first], curated.kept[curated.apart.second], curated.apart.similarity
        )
        curated.drop(keepers)

    def _exact(self) -> Integers:
        """Remove rows whose prompt and answer repeat an earlier row's; return pairs of equal prompts.

        Prompts are compared by fingerprint, answers letter by letter. Equal prompts with different answers
        both stay: which of them is right is for a person to say.
        """
        curated = self._curated
        kept = curated.kept
        first = first_of_key(curated.rows.numbers("row_key")[kept])
        repeats = np.flatnonzero(first != np.arange(len(kept)))
        same = first_of_key(curated.rows.numbers("prompt_key")[kept])
        others = np.flatnonzero((same != np.arange(len(kept))) & (first == np.arange(len(kept))))
        if len(others):
            curated.warnings.append(self._conflicts(kept[same[others]], kept[others]))
        if self._clean.exact_duplicates:
            curated.drop(
                {
                    int(kept[i]): Drop("exact_duplicate", f"repeats {curated.where(int(kept[first[i]]))}")
                    for i in repeats
                }
            )
        else:
            others = np.flatnonzero(same != np.arange(len(kept)))
        return np.stack([kept[same[others]], kept[others]], axis=1)

    def _conflicts(self, first: Integers, second: Integers) -> str:
        number = self._curated.row_number
        shown = [f"rows {number(a)} and {number(b)}" for a, b in zip(first[:5], second[:5], strict=True)]
        more = f" and {len(first) - 5} more" if len(first) > 5 else ""
        what = "1 prompt has" if len(first) == 1 else f"{len(first)} prompts have"
        listed = ", ".join(shown) + more
        return f"{what} different answers in different rows ({listed}); all are kept, in one split"

    def _labels(self) -> tuple[str, ...] | None:
        curated = self._curated
        mode = curated.config.labels
        if len(curated.rows.column("rejected").drop_null()):
            return None
        answers = curated.rows.numbers("answer_key")
        if mode == "auto" and len(np.unique(answers[curated.kept])) > _MOST_CLASSES_LOOKED_AT:
            return None
        _, first, curated.answer_codes = np.unique(answers, return_index=True, return_inverse=True)
        curated.answers = curated.rows.references(first)
        return find_labels([curated.answers[c] for c in curated.answer_codes[curated.kept].tolist()], mode)

    def _near(self) -> tuple[Pairs, dict[int, Drop]]:
        """Return similar pairs by position, and the rows that repeat an earlier one."""
        curated, clean = self._curated, self._clean
        none = np.empty(0, dtype=np.int64)
        if clean.near_duplicates == "off":
            return Pairs(none, none, np.empty(0)), {}
        # Equal prompts are the exact search's business: what it left stays, because the answers differ.
        texts = curated.rows.numbers("text_key")[curated.kept]
        first = first_of_key(texts)
        originals = curated.kept[np.flatnonzero(first == np.arange(len(first)))]
        repeats = np.flatnonzero(first != np.arange(len(first)))
        same = Pairs(curated.kept[first[repeats]], curated.kept[repeats], np.ones(len(repeats)))
        sketch = self._sketch(originals)
        pairs = close_pairs(sketch, clean.group_threshold)
        drops = {}
        if clean.near_duplicates == "drop":
            keepers = near_keepers(pairs, self._answers(originals), sketch, drop_from=clean.near_threshold)
            for second, keeper in keepers.items():
                where = curated.where(int(originals[keeper.row]))
                drops[int(originals[second])] = Drop(
                    "near_duplicate", f"{keeper.similarity:.0%} like {where}, with the same answer"
                )
        near = Pairs(originals[pairs.first], originals[pairs.second], pairs.similarity)
        return Pairs(*(np.concatenate(columns) for columns in zip(same, near, strict=True))), drops

    def _sketch(self, originals: Integers) -> Sketch:
        rows = self._curated.rows
        sample = originals[:: max(1, len(originals) // SAMPLE)]
        common = common_shingles(rows.column("text").take(sample).to_pylist())
        tasks = (SketchTask(texts, common) for texts in rows.texts(originals))
        sketches = spread(sketch_texts, tasks, engine=self._curated.config.engine)
        characters = pc.sum(pc.utf8_length(rows.column("text"))).as_py()
        return combined(sketches, texts=len(originals), characters=characters)

    def _answers(self, originals: Integers) -> Answers:
        rows = self._curated.rows
        numbers, turns, exact = (rows.numbers(n)[originals] for n in ("numbers_key", "turns", "answer_key"))
        if self._curated.labels is not None:
            return Answers(numbers, turns, exact, None)

        def texts(i: int) -> Sequence[str]:
            (example,) = rows.examples([int(originals[i])])
            return (example.reference, example.rejected or "")

        return Answers(numbers, turns, exact, texts)

    def _tied(self) -> Integers:
        """Return pairs, by place among the kept rows, that tie together the rows of each mapped group."""
        keys = self._curated.rows.column("group_keys").take(self._curated.kept).combine_chunks()
        rows, values = pc.list_parent_indices(keys).to_numpy(), pc.list_flatten(keys)
        if not len(values):
            return np.empty((0, 2), dtype=np.int64)
        codes = values.dictionary_encode().indices.to_numpy()
        return np.stack([rows[first_of_key(codes.astype(np.uint64))], rows], axis=1)
