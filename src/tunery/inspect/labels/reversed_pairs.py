"""Reversed pairs: preference pairs whose order is probably the wrong way round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunery.inspect.labels.out_of_fold import FOLDS, folds
from tunery.text.embeddings import Encoder, word_vectors
from tunery.text.features import Vectors

_FEWEST = 20
_INVERSE_RIDGE = 1.0
_CONFIDENT = 0.8
"""Probability of the other order from which a pair counts as reversed."""


class ReversedPair(NamedTuple):
    """A pair whose rejected answer looks like the better one."""

    row: int
    """Position in the given pairs, from 0."""
    score: float
    """Probability of the other order, as learnt from the other pairs, in [0, 1]."""


def find_reversed_pairs(
    prompts: Sequence[str],
    chosen: Sequence[str],
    rejected: Sequence[str],
    *,
    encoder: Encoder | None = None,
    count: int | None = None,
) -> list[ReversedPair]:
    """Find preference pairs in which the answers probably changed places.

    A logistic regression on the difference of the answers' features learns what the other pairs prefer (five
    folds), and a pair is reversed where that taste gives the other order a probability of 0.8 or more. It
    finds reversed pairs only where taste shows in length, wording and subject, as it does for tone; it knows
    nothing of truth. Where the given order contradicts more than one confident prediction in five, no taste
    was learnt, and none is returned.

    Args:
        prompts: What was answered; tells how much of an answer repeats its prompt.
        chosen: The preferred answers.
        rejected: The others.
        encoder: Gives sentence embeddings of answers; None uses words only.
        count: How many pairs to return; None returns those from 0.8, if that can be believed.

    Returns:
        The most probable first, ties by position; nothing for fewer than 20 pairs.

    Raises:
        ValueError: The lists differ in length.
    """
    if not len(prompts) == len(chosen) == len(rejected):
        raise ValueError(f"{len(prompts)} prompts, {len(chosen)} chosen and {len(rejected)} rejected answers")
    if len(prompts) < _FEWEST or not any(c != r for c, r in zip(chosen, rejected, strict=True)):
        return []
    against = 1 - _kept_order(_differences(prompts, chosen, rejected, encoder))
    wanted = _believable(against) if count is None else max(0, count)
    order = np.argsort(-against, kind="stable")[:wanted]
    return [ReversedPair(int(i), float(against[i])) for i in order]


def _believable(against: npt.NDArray[np.float64]) -> int:
    """Return how many pairs are confidently against their order, or 0 where confidence has proved empty."""
    reversed_, kept = int((against >= _CONFIDENT).sum()), int((against <= 1 - _CONFIDENT).sum())
    return reversed_ if reversed_ <= (1 - _CONFIDENT) * (reversed_ + kept) else 0


def _differences(
    prompts: Sequence[str], chosen: Sequence[str], rejected: Sequence[str], encoder: Encoder | None
) -> npt.NDArray[np.float64]:
    answers = [*chosen, *rejected]
    views: list[Vectors] = [*word_vectors(answers)]
    if encoder is not None:
        views.append(encoder(answers))
    views.append(np.array([_plain(p, a) for p, a in zip([*prompts, *prompts], answers, strict=True)], "f4"))
    features = np.hstack(views).astype(np.float64)
    return features[: len(chosen)] - features[len(chosen) :]


def _plain(prompt: str, answer: str) -> tuple[float, float, float, float]:
    words = answer.casefold().split()
    prompt_words = set(prompt.casefold().split())
    repeated = sum(word in prompt_words for word in words) / max(1, len(words))
    return np.log1p(len(answer)), np.log1p(len(words)), repeated, float(answer.rstrip().endswith("?"))


def _kept_order(differences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return for each pair the out-of-fold probability that its order is right."""
    from sklearn.linear_model import LogisticRegression

    fold = folds(np.zeros(len(differences), dtype=np.int64))
    probability = np.zeros(len(differences))
    for held in range(FOLDS):
        inside = differences[fold != held]
        # Each pair both ways round: without a constant, only what differs between answers can count.
        both = np.vstack([inside, -inside])
        order = np.repeat([1, 0], len(inside))
        model = LogisticRegression(C=_INVERSE_RIDGE, fit_intercept=False, max_iter=500).fit(both, order)
        probability[fold == held] = model.predict_proba(differences[fold == held])[:, 1]
    return probability
