"""Near-duplicate pairs against comparing everything with everything."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.minhash import combined, common_shingles, make_sketch, similar_pairs
from tunery.text.shingles import SHINGLE_CHARS, jaccards, joined, shingle_sets, without

WORDS = """card account transfer money pending refund charge fee cash machine top up exchange rate passcode
identity verify statement cheque salary holiday phone lost stolen virtual disposable direct debit atm balance
""".split()  # noqa: SIM905 - thirty words read better as words


def sentences(count: int, seed: int) -> list[str]:
    """Random sentences, a third of them an earlier one with a word changed."""
    draw = random.Random(seed)
    texts: list[str] = []
    while len(texts) < count:
        words = [draw.choice(WORDS) for _ in range(draw.randint(6, 16))]
        if texts and draw.random() < 0.35:
            words = draw.choice(texts).split()
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        text = " ".join(words)
        if text not in texts:
            texts.append(text)
    return texts


def shingles(text: str) -> frozenset[str]:
    """Pieces as strings: what the hashed sets must agree with."""
    return frozenset(text[i : i + SHINGLE_CHARS] for i in range(max(1, len(text) - SHINGLE_CHARS + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a & b else 0.0


def components(count: int, pairs: list[tuple[int, int]]) -> set[frozenset[int]]:
    groups = {i: {i} for i in range(count)}
    for a, b in pairs:
        if groups[a] is not groups[b]:
            groups[a] |= groups[b]
            for member in groups[b]:
                groups[member] = groups[a]
    return {frozenset(g) for g in groups.values()}


def test_every_reported_pair_is_right_and_groups_equal_those_of_all_comparisons() -> None:
    texts = sentences(300, seed=1)
    common = boilerplate_by_hand(texts)
    sets = [shingles(t) - common for t in texts]
    every = {(i, j): jaccard(sets[i], sets[j]) for i, j in itertools.combinations(range(len(texts)), 2)}
    truth = {pair: similarity for pair, similarity in every.items() if similarity >= 0.8}
    found = similar_pairs(texts, 0.8)
    assert len(truth) > 15
    assert all(truth[p.first, p.second] == pytest.approx(p.similarity) for p in found)
    assert components(len(texts), [(p.first, p.second) for p in found]) == components(len(texts), list(truth))


def boilerplate_by_hand(texts: list[str]) -> frozenset[str]:
    sets = [shingles(t) for t in texts]
    limit = max(20, 0.2 * len(texts))
    return frozenset(s for s in set().union(*sets) if sum(s in pieces for pieces in sets) > limit)


def test_an_instruction_repeated_in_every_row_does_not_make_rows_alike() -> None:
    instruction = "classify the mood of this review as good or bad and answer with one word only please "
    texts = [instruction + "".join(random.Random(i).choices("abcdefghij ", k=30)) for i in range(200)]
    assert jaccard(shingles(texts[0]), shingles(texts[1])) > 0.5
    assert similar_pairs(texts, 0.5) == []


def test_a_thousand_rewordings_of_one_sentence_stay_one_group() -> None:
    base = sentences(300, seed=2)
    copies = [f"{base[0]} {i}" for i in range(60)]
    found = similar_pairs(base + copies, 0.8)
    groups = components(len(base) + len(copies), [(p.first, p.second) for p in found])
    assert max(map(len, groups)) >= len(copies)
    assert len(found) < 60 * 32 * 2


@given(st.lists(st.text(max_size=30), min_size=2, max_size=8))
def test_hashed_sets_have_the_sizes_and_overlaps_of_the_sets_of_pieces(texts: list[str]) -> None:
    sets = shingle_sets(texts)
    assert sets.sizes().tolist() == [len(shingles(t)) for t in texts]
    first, second = np.triu_indices(len(texts), 1)
    expected = [jaccard(shingles(texts[i]), shingles(texts[j])) for i, j in zip(first, second, strict=True)]
    assert jaccards(sets, first, second).tolist() == pytest.approx(expected)


@given(st.lists(st.text("abc ", max_size=12), max_size=8), st.integers(0, 8))
def test_sketching_in_parts_gives_the_same_sketch(texts: list[str], cut: int) -> None:
    common = common_shingles(texts)
    whole = make_sketch(texts, common)
    cuts = [make_sketch(texts[:cut], common), make_sketch(texts[cut:], common)]
    parts = combined(cuts, texts=len(texts), characters=sum(map(len, texts)))
    assert np.array_equal(whole.bands, parts.bands)
    assert np.array_equal(whole.sets.hashes, parts.sets.hashes)
    assert np.array_equal(whole.sets.offsets, parts.sets.offsets)


@given(st.lists(st.text("abcd", max_size=20), max_size=8), st.text("abcd", max_size=20))
def test_common_shingles_are_taken_out_of_every_set(texts: list[str], other: str) -> None:
    common = shingle_sets([other]).hashes
    left = without(joined([shingle_sets(texts)]), common)
    assert left.sizes().tolist() == [len(shingles(t) - shingles(other)) for t in texts]


def test_later_texts_change_no_pair_of_earlier_ones() -> None:
    texts = sentences(400, seed=3)
    whole = {(p.first, p.second) for p in similar_pairs(texts, 0.8) if p.second < 250}
    assert whole == {(p.first, p.second) for p in similar_pairs(texts[:250], 0.8)}
    assert len(whole) > 10


def test_no_texts_and_empty_texts_have_no_pairs() -> None:
    assert similar_pairs([], 0.8) == []
    assert similar_pairs([""], 0.8) == []
    assert similar_pairs(["abc", "abd"], 0.8) == []
    (pair,) = similar_pairs(["one question here", "one question herd"], 0.8)
    assert pair == (0, 1, pytest.approx(13 / 15))
