"""Repeats are removed only when nothing is lost by it; the rest is grouped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.config import parse_settings
from tunery.core.progress import Silent
from tunery.data.config import DataConfig
from tunery.data.curate import curate
from tunery.data.readers.source import locate
from tunery.data.split.groups import follow_earliest, group_rows
from tunery.text.minhash import Pairs, join

NONE = np.empty((0, 2), dtype=np.int64)


class Found(NamedTuple):
    drops: dict[int, tuple[str, str]]
    """Position to reason and detail."""
    groups: list[int]
    """Group of each row that stays."""


class Rows:
    """Curates a few rows and tells what went and what belongs together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self, *rows: tuple[str, str], labels: str = "open", near: float = 0.9, link: float = 0.8
    ) -> Found:
        return self._curate([{"input": q, "output": a} for q, a in rows], labels, near, link)

    def pairs(self, *rows: tuple[str, str, str]) -> Found:
        keys = ("prompt", "chosen", "rejected")
        return self._curate([dict(zip(keys, row, strict=True)) for row in rows], "open", 0.9, 0.8)

    def _curate(self, rows: list[dict[str, str]], labels: str, near: float, link: float) -> Found:
        path = self._folder / "a.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        config = parse_settings(
            DataConfig,
            {
                "sources": [{"path": "a.jsonl"}],
                "labels": labels,
                "split": {"test": 0, "validation": 0, "assign": "exact"},
                "clean": {"near_threshold": near, "group_threshold": link},
            },
            where="data",
        )
        source = locate(config.sources[0], self._folder)
        scratch = self._folder / "rows"
        with curate(
            [source], config, tokenizer=None, max_tokens=None, scratch=scratch, progress=Silent()
        ) as found:
            drops = {i: (d.reason, d.detail) for i, d in sorted(found.drops.items())}
            return Found(drops, found.groups.tolist())


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path)


def test_a_repeat_but_for_case_and_punctuation_goes_and_names_the_row_kept(rows: Rows) -> None:
    found = rows(("Where's my card?", "x"), ("Other", "x y"), ("where's  my CARD", "x"))
    assert found.drops == {2: ("exact_duplicate", "repeats row 1 of a.jsonl")}


def test_equal_prompts_with_different_answers_both_stay_and_belong_together(rows: Rows) -> None:
    found = rows(("Where?", "x"), ("where", "y"), ("Where?", "X"))
    assert found == Found({}, [0, 0, 0])


def test_preference_pairs_with_another_rejected_answer_are_no_repeats(rows: Rows) -> None:
    assert rows.pairs(("q", "a", "b"), ("q", "a", "c")).drops == {}


LONG = "How long does it take until the card that I ordered last week gets here"


def test_a_near_repeat_with_the_same_label_goes(rows: Rows) -> None:
    found = rows((LONG, "x"), (LONG + " now", "x"), ("Another", "y"), labels="closed")
    assert found.drops == {1: ("near_duplicate", "94.4 % like row 1 of a.jsonl, with the same answer")}


def test_a_near_repeat_with_another_label_stays_in_the_same_group(rows: Rows) -> None:
    found = rows((LONG, "x"), (LONG + " now", "y"), labels="closed")
    assert found == Found({}, [0, 0])


def test_texts_that_differ_in_a_number_are_never_repeats(rows: Rows) -> None:
    long = (
        "Please send the sum of precisely {} pounds to the account of my landlord before Friday evening, "
        "and tell me when the money has arrived there"
    )
    other = ("Something else", "no")
    assert list(rows((long.format(100), "ok"), (long.format(180), "ok"), other).drops) == []
    assert list(rows((long.format("ten"), "ok"), (long.format("six"), "ok"), other).drops) == [1]


def test_free_answers_must_be_nearly_the_same_too(rows: Rows) -> None:
    long = "The parcel was handed over to the carrier on Monday and should arrive within the next days"
    assert list(rows((LONG, long), (LONG + " now", long + " then")).drops) == [1]
    assert list(rows((LONG, long), (LONG + " now", "I do not know.")).drops) == []


def test_a_chain_is_never_dropped_by_way_of_its_middle(rows: Rows) -> None:
    # Each step is 90 % like the one before; the last is not like the first, so it must stay.
    steps = [LONG]
    for word in (" or", " not", " at", " all", " today", " please"):
        steps.append(steps[-1] + word)
    found = rows(*((text, "x") for text in steps), ("Another", "y"), labels="closed")
    kept = [i for i in range(len(steps)) if i not in found.drops]
    assert 0 in kept
    assert len(kept) > 1
    assert found.drops
    for i, (_, detail) in found.drops.items():
        keeper = int(detail.split("row ")[1].split()[0]) - 1
        assert keeper in kept
        assert keeper < i


def graphs(nodes: int) -> st.SearchStrategy[tuple[int, list[tuple[int, int]]]]:
    node = st.integers(0, nodes - 1)
    return st.tuples(st.just(nodes), st.lists(st.tuples(node, node)))


@given(st.integers(1, 12).flatmap(graphs))
def test_join_gives_the_first_row_of_each_connected_group(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, links = graph
    roots = join(count, np.array(links, dtype=np.int64).reshape(-1, 2)).tolist()
    assert all(roots[a] == roots[b] for a, b in links)
    for i, root in enumerate(roots):
        assert root <= i
        assert roots[root] == root
    # As many groups as a spanning forest leaves.
    merged, groups = list(range(count)), count
    for a, b in links:
        if merged[a] != merged[b]:
            old = merged[b]
            merged = [merged[a] if m == old else m for m in merged]
            groups -= 1
    assert len(set(roots)) == groups


def chained(similarities: list[float]) -> Pairs:
    first = np.arange(len(similarities))
    return Pairs(first, first + 1, np.array(similarities))


def test_a_long_chain_of_similar_rows_is_cut_but_firm_ties_hold() -> None:
    chain = chained([0.85] * 20)
    assert len(set(group_rows(21, NONE, chain, largest=30, strict=0.9).tolist())) == 1
    assert len(set(group_rows(21, NONE, chain, largest=10, strict=0.9).tolist())) == 21
    assert group_rows(21, np.array([[3, 7]]), chain, largest=10, strict=0.9)[7] == 3
    strict = chained([0.85] * 5 + [0.95] + [0.85] * 14)
    assert group_rows(21, NONE, strict, largest=10, strict=0.9)[6] == 5


@given(st.integers(2, 12).flatmap(graphs), st.integers(1, 12))
def test_groups_that_follow_the_earliest_row_do_not_change_when_rows_are_added(
    graph: tuple[int, list[tuple[int, int]]], before: int
) -> None:
    count, links = graph
    before = min(before, count)
    ordered = sorted({(min(a, b), max(a, b)) for a, b in links if a != b})
    firm = np.array(ordered[::3], dtype=np.int64).reshape(-1, 2)
    near = [link for i, link in enumerate(ordered) if i % 3]

    def groups(rows: int) -> list[int]:
        tied = np.array([f for f in firm.tolist() if f[1] < rows], dtype=np.int64).reshape(-1, 2)
        pairs = np.array([n for n in near if n[1] < rows], dtype=np.int64).reshape(-1, 2)
        similar = Pairs(pairs[:, 0], pairs[:, 1], np.where(pairs.sum(axis=1) % 2, 0.95, 0.85))
        roots, _ = follow_earliest(rows, tied, similar, largest=lambda n: max(2, n // 3), strict=0.9)
        return roots.tolist()

    every, some = groups(count), groups(before)
    # Firm ties may reach back over several rows; only where they do not is the past settled.
    if not any(a < before <= b for a, b in firm.tolist()):
        assert every[:before] == some
    assert all(every[a] == every[b] for a, b in firm.tolist())
    assert all(every[root] == root for root in every)
