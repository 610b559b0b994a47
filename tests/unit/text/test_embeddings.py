"""Texts as vectors of words and parts of words."""

from __future__ import annotations

import numpy as np
import pytest

from tunery.core.errors import ConfigError
from tunery.text.embeddings import word_vectors

TEXTS = [
    "my card is lost",
    "my card was lost",
    "what is the exchange rate",
    "exchange rates please",
    "lots cardd",
]


def test_vectors_have_length_one_and_like_texts_are_near() -> None:
    parts, words = word_vectors(TEXTS)
    for vectors in (parts, words):
        assert vectors.shape[0] == len(TEXTS)
        assert vectors.dtype == np.float32
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[3]
    np.testing.assert_allclose(np.linalg.norm(parts, axis=1), 1, atol=1e-5)


def test_parts_of_words_see_through_a_typing_error_where_words_do_not() -> None:
    parts, words = word_vectors(TEXTS)
    assert parts[4] @ parts[0] > 0.1
    assert abs(words[4] @ words[0]) < 0.1


def test_a_text_without_letters_is_a_row_of_zeros() -> None:
    for vectors in word_vectors([*TEXTS, " "]):
        np.testing.assert_allclose(vectors[-1], 0, atol=1e-6)


def test_the_same_texts_give_the_same_vectors() -> None:
    for first, second in zip(word_vectors(TEXTS), word_vectors(TEXTS), strict=True):
        np.testing.assert_array_equal(first, second)


def test_texts_of_one_term_need_no_reduction() -> None:
    assert word_vectors(["a", "a", "a"])[-1].shape == (3, 1)


def test_texts_without_any_letter_are_refused() -> None:
    with pytest.raises(ConfigError, match="none of the 3 texts has a letter"):
        word_vectors([" ", "", "  "])
