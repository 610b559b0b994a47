"""Flaws in words: what a message shows of a value, and how many rows one error lists."""

from __future__ import annotations

import pickle

import pytest

from tunery.core.example import Dropped
from tunery.data.rows.flaws import refusal, sentence
from tunery.data.rows.row import NO_VALUE, Flaw


@pytest.mark.parametrize(
    ("flaw", "says"),
    [
        (Flaw("content", 5, "must be text"), "content: 5; must be text"),
        (Flaw("content", None, "must be text"), "content: missing; must be text"),
        (Flaw("messages", NO_VALUE, "2 turns; add one"), "messages: 2 turns; add one"),
        (Flaw("", NO_VALUE, "not JSON"), "not JSON"),
        (Flaw("role", "mail me at a@b.org", "unknown"), "role: 'mail me at <EMAIL_ADDRESS>'; unknown"),
        (Flaw("text", "x" * 99, "too long"), f"text: '{'x' * 56}…; too long"),
    ],
)
def test_a_flaw_is_redacted_and_cut_where_it_is_put_in_words(flaw: Flaw, says: str) -> None:
    assert sentence(flaw) == says
    assert sentence(pickle.loads(pickle.dumps(flaw))) == says


def test_an_error_lists_ten_rows_and_counts_the_rest() -> None:
    rows = [Dropped(source="a.csv", row=i, reason="bad_row", detail="no", text="") for i in range(1, 13)]
    message = str(refusal("a.csv", rows))
    assert "row 10: no" in message
    assert "row 11" not in message
    assert "and 2 more" in message
