"""Names are read from the words around them, the same way alone and in a batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.pii import detect
from tunery.text.pii.names import _BATCH_TOKENS, NameModel, name_model

NAMES = ("PERSON", "LOCATION", "ORGANIZATION")
SENTENCES = [
    ("My name is Anna Schmidt and I need a new card.", "PERSON", "Anna Schmidt"),
    ("my name is anna schmidt", "PERSON", "anna schmidt"),
    ("Please write to Mr. Okonkwo about it.", "PERSON", "Okonkwo"),
    ("I was born in Lisbon.", "LOCATION", "Lisbon"),
    ("Please send it to 12 Baker Street, London.", "LOCATION", "12 Baker Street, London"),
    ("I have worked for Globex Technologies Inc. since 2011.", "ORGANIZATION", "Globex Technologies Inc"),
]


@pytest.mark.parametrize(("text", "kind", "value"), SENTENCES)
def test_a_name_is_found_in_a_plain_sentence(text: str, kind: str, value: str) -> None:
    found = [(s.type, text[s.start : s.end]) for s in detect([text], NAMES)[0]]
    assert any(k == kind and (value in v or v in value) for k, v in found), found


@pytest.mark.parametrize(
    "text",
    [
        "Can I use my card in France?",
        "do you support the uk and the European Union",
        "My card was declined twice today, what should I do?",
        "Capitalised Words Such As Honesty Are No Names.",
        "",
        "\n \n",
        "?!?",
    ],
)
def test_countries_alone_and_plain_words_are_not_told(text: str) -> None:
    assert detect([text], NAMES) == [[]]


def test_only_the_names_asked_for_are_told() -> None:
    text = "My name is Anna Schmidt and I live in Berlin."
    assert {s.type for s in detect([text], ("LOCATION",))[0]} == {"LOCATION"}


TEXTS = st.lists(
    st.one_of(st.sampled_from([t for t, _, _ in SENTENCES]), st.text(max_size=60)), min_size=1, max_size=12
)


@given(TEXTS)
def test_texts_of_a_batch_do_not_see_each_other(texts: list[str]) -> None:
    together = detect(texts, NAMES)
    alone = [detect([t], NAMES)[0] for t in texts]
    assert [[s[:3] for s in spans] for spans in together] == [[s[:3] for s in spans] for spans in alone]
    for text, spans in zip(texts, together, strict=True):
        assert all(0 <= s.start < s.end <= len(text) and 0 < s.score <= 1 for s in spans)


def test_a_text_longer_than_a_batch_is_read_to_its_end() -> None:
    filler = "The card did not work at all today . " * (_BATCH_TOKENS // 8)
    text = filler + "My name is Anna Schmidt."
    assert [text[s.start : s.end] for s in detect([text], NAMES)[0]][-1] == "Anna Schmidt"


def test_what_was_read_before_changes_nothing() -> None:
    texts = [t for t, _, _ in SENTENCES]
    first = detect(texts, NAMES)
    name_model().forget()
    detect(["Quite other words: Zanzibar, Nebuchadnezzar, Rumpelstiltskin."], NAMES)
    assert detect(texts, NAMES) == first


def test_a_model_without_weights_finds_nothing() -> None:
    import numpy as np

    from tunery.text.pii.tokens import BUCKETS

    shapes = {"embedding": (BUCKETS, 4), "w1": (28, 3), "b1": (3,), "w2": (15, 2), "b2": (2,), "w3": (2, 4)}
    weights = {k: np.zeros(v, np.float32) for k, v in shapes.items()}
    weights["b3"] = np.array([9, 0, 0, 0], np.float32)
    assert NameModel(weights).find(["My name is Anna Schmidt."], 0.5) == [[]]
