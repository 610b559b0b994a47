"""The most similar text: what comparing with every text finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.neighbours import Neighbours
from tunery.text.normalise import fingerprint


@given(st.lists(st.text("abcd e", max_size=14), min_size=1, max_size=12), st.text("abcd e", max_size=14))
def test_the_nearest_text_is_that_of_comparing_with_every_one(texts: list[str], text: str) -> None:
    def pieces(text: str) -> set[str]:
        text = fingerprint(text)
        return {text[i : i + 4] for i in range(max(1, len(text) - 3))}

    neighbours = Neighbours()
    for known in texts:
        neighbours.add(known)
    every = [len(pieces(t) & pieces(text)) / len(pieces(t) | pieces(text)) for t in texts]
    near = neighbours.nearest(text)
    if near is None:
        assert max(every) == 0
    else:
        assert near.similarity == pytest.approx(max(every))
        assert every[near.position] == pytest.approx(max(every))
