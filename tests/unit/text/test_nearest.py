"""The index finds what comparing with every text finds, and all who ask for repeats get one answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.synthesise.test_parts import settings
from tunery.core.example import Example, Message, example_id, prompt_text
from tunery.data.rows.table import encode_rows
from tunery.feedback.heldout import HeldOutIndex, HeldOutPrompt
from tunery.synthesise.answers import Candidate
from tunery.synthesise.filter import RowFilter
from tunery.synthesise.seeds import RequestSpec
from tunery.text.minhash import close_pairs, make_sketch
from tunery.text.nearest import Nearest, NearestIndex
from tunery.text.sameness import words_alone


def pieces(text: str) -> set[str]:
    text = words_alone(text)
    return {text[i : i + 4] for i in range(max(1, len(text) - 3))}


def jaccard(a: str, b: str) -> float:
    return len(pieces(a) & pieces(b)) / len(pieces(a) | pieces(b))


WORDS = st.text("abcd e", max_size=14)
LEAST = st.sampled_from([0.1, 0.5, 0.7, 0.8, 0.9, 1.0])


@given(st.lists(WORDS, max_size=12), WORDS, LEAST)
def test_the_nearest_text_is_that_of_comparing_with_every_one(texts: list[str], text: str, least: float):
    index = NearestIndex(texts[: len(texts) // 2])
    for late in texts[len(texts) // 2 :]:
        index.add(late)

    near = index.nearest(text, at_least=least)

    equal = [i for i, t in enumerate(texts) if words_alone(t) == words_alone(text)]
    every = [jaccard(t, text) for t in texts]
    best = max(every, default=0.0)
    assert len(index) == len(texts)
    if equal:
        assert near == Nearest(equal[0], 1.0, exact=True)
    elif best >= least:
        assert near == Nearest(every.index(best), best, exact=False)
    else:
        assert near is None


PAIRS = [
    ("What is the £5 fee?", "What is the €5 fee?"),
    ("C++", "C#"),
    ("👍", "👎"),
    ("-5", "5"),
    ("3.5", "35"),
    ("Where is my card?", "where  is my CARD"),
    ("Where's my card?", "where s my card"),
    ("ｗｈｙ me", "Why me?"),
    ("Cafe\u0301", "café"),
    ("कि", "की"),
    ("?", "!"),
    ("aaaaa", "aaaaaa"),
    ("I was charged twice for the same purchase", "I was charged twice for the same purchases!"),
    ("I was charged twice for the same purchase", "I was charged once for the same purchase"),
    ("", "a"),
]
TEXTS = st.text(max_size=20) | st.lists(st.sampled_from(["my", "card", "£5", "€5", "fee", "!", "👍"])).map(
    " ".join
)
SIMILARITY = 0.8


def user(text: str) -> Example:
    turns = (Message(role="user", content=text), Message(role="assistant", content="ok"))
    return Example(id=example_id(turns), messages=turns, group="g", metadata={"source": "a", "row": 1})


def feedback_repeats(a: str, b: str) -> bool:
    held_out = HeldOutIndex([HeldOutPrompt("ds-1", "test", "ex-1", a)], similarity=SIMILARITY)
    return held_out.match([Message(role="user", content=b)]) is not None


def synthesis_repeats(a: str, b: str) -> bool:
    config = settings(max_similarity=SIMILARITY, language="any")
    rows = RowFilter(config, [], [user(a)], [], group_threshold=1.0)
    spec = RequestSpec(0, "k", (), (), None, ())
    return rows.reject(Candidate(b, "ok"), spec) is not None


def curation_repeats(a: str, b: str) -> bool:
    rows = [user(a), user(b)]
    keys = encode_rows(rows, ["00" * 32] * 2, {}, {"group_keys": [()] * 2, "sampling_key": [None] * 2})
    if keys["text_key"][0] == keys["text_key"][1]:
        assert keys["prompt_key"][0] == keys["prompt_key"][1]
        return True
    words = [words_alone(prompt_text(row)) for row in rows]
    return len(close_pairs(make_sketch(words, np.empty(0, dtype=np.int32)), SIMILARITY)) > 0


def agree(a: str, b: str) -> None:
    repeats = curation_repeats(a, b)
    assert synthesis_repeats(a, b) == repeats
    if words_alone(a):  # a held-out prompt that says nothing is none to feedback
        assert feedback_repeats(a, b) == repeats


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_feedback_synthesis_and_curation_agree_on_what_a_repeat_is(a: str, b: str):
    agree(a, b)
    agree(b, a)


@given(TEXTS, TEXTS)
def test_they_agree_on_any_two_texts(a: str, b: str):
    agree(a, b)


@given(TEXTS, st.sampled_from(["!", " ", "  ?\n", "…"]))
def test_they_agree_that_marks_and_spaces_at_the_end_change_nothing(text: str, mark: str):
    agree(text, text.upper().lower() + mark)
    agree(text, text + mark)
