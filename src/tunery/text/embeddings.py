"""Embeddings: texts to dense vectors, by a sentence encoder that the caller brings and by word statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tunery.core.errors import ConfigError
from tunery.text.features import Vectors, unit

Encoder = Callable[[Sequence[str]], Vectors]
"""Texts to vectors of length one, shape ``(n_texts, dimensions)``; such as
:class:`tunery.model.encoder.SentenceEncoder`."""

_DIMENSIONS = 300
_MANY_ROWS = 1000


def word_vectors(texts: Sequence[str]) -> list[Vectors]:
    """Return what words and what parts of words say about texts, without any trained encoder.

    Both are TF-IDF weights reduced to the 300 directions in which these texts differ most. Words are words
    and pairs of neighbours, parts are runs of two to four characters inside a word, which survive typing
    errors and inflection.

    Args:
        texts: At least two.

    Returns:
        Two arrays of shape ``(n_texts, at most 300)`` with rows of length one: parts of words, then words. A
        text of which nothing is known is a row of zeros. One array where no word is left.

    Raises:
        ConfigError: No text has a letter or a digit.

    Source:
        Deerwester et al. (1990), Indexing by Latent Semantic Analysis; weights as scikit-learn's
        ``TfidfVectorizer`` computes them.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    fewest = 2 if len(texts) >= _MANY_ROWS else 1  # in a large set a term of one text matches nothing
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=fewest, sublinear_tf=True)
    one_letter_too = r"(?u)\b\w+\b"
    words = TfidfVectorizer(
        ngram_range=(1, 2), min_df=fewest, sublinear_tf=True, token_pattern=one_letter_too
    )
    found = [v for v in (_reduced(parts, texts), _reduced(words, texts)) if v is not None]
    if not found:
        raise ConfigError(
            f"none of the {len(texts)} texts has a letter or a digit", hint="map another input column"
        )
    return found


def _reduced(vectorizer: Any, texts: Sequence[str]) -> Vectors | None:
    from sklearn.decomposition import TruncatedSVD

    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's word for an empty vocabulary
        return None
    dimensions = min(_DIMENSIONS, len(texts) - 1, weights.shape[1] - 1)
    if dimensions < 1 or weights.nnz == 0:
        return unit(weights.toarray().astype(np.float32))
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # equal texts vary in nothing; their shares go unused
        reduced = TruncatedSVD(dimensions, n_iter=3, random_state=0).fit_transform(weights)
    return unit(np.ascontiguousarray(reduced, dtype=np.float32))
