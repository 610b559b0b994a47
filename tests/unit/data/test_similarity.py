"""Near-duplicate pairs against comparing everything with everything."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from tunery.data.similarity import SHINGLE_CHARS, Pair, jaccard, shingles, similar_pairs

WORDS = """card account transfer money pending refund charge fee cash machine top up exchange rate passcode
identity verify statement cheque salary holiday phone lost stolen virtual disposable direct debit atm balance
""".split()  # noqa: SIM905 - thirty words read better as words


def sentences(count: int, seed: int) -> list[str]:
    """Random sentences, a third of them an earlier one with a word changed."""
    draw = random.Random(seed)
    made: list[str] = []
    while len(made) < count:
        words = [draw.choice(WORDS) for _ in range(draw.randint(6, 16))]
        if made and draw.random() < 0.35:
            words = draw.choice(made).split()
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        text = " ".join(words)
        if text not in made:
            made.append(text)
    return made


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
    assert all(truth[p.first, p.second] == p.similarity for p in found)
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


@given(st.text(max_size=30))
def test_shingles_cover_the_text(text: str) -> None:
    pieces = shingles(text)
    assert all(p in text for p in pieces)
    assert len(pieces) <= max(1, len(text) - SHINGLE_CHARS + 1)
    assert jaccard(pieces, pieces) == 1.0


def test_no_texts_and_empty_texts_have_no_pairs() -> None:
    assert similar_pairs([], 0.8) == []
    assert similar_pairs([""], 0.8) == []
    assert similar_pairs(["abc", "abd"], 0.8) == []
    assert similar_pairs(["one question here", "one question herd"], 0.8) == [Pair(0, 1, 13 / 15)]
