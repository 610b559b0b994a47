"""Rows that are answered several times: how often a model is right, ever right, and of one mind."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

from tunery.core.evaluation import Metric, Prediction
from tunery.core.example import Example
from tunery.core.ids import sha256_text
from tunery.evaluate.metrics import PASS_AT_K, REPEAT_AGREEMENT, mean_metric
from tunery.text.answer import same_text

_MARK = "#repeat"


def repeated(examples: Iterable[Example], times: int) -> list[Example]:
    """Return each example as often as it is to be answered, with ids of their own; once leaves them alone.

    Repeats of a row are of one group, so that they count as the one row that they are.
    """
    if times == 1:
        return list(examples)
    return [
        example.with_(id=f"{example.id}{_MARK}{number}")
        for example in examples
        for number in range(1, times + 1)
    ]


def row_of(repeat: str) -> str:
    """Return the id of the row that a repeat's id belongs to.

    >>> row_of("ex-0f#repeat2"), row_of("ex-0f")
    ('ex-0f', 'ex-0f')
    """
    return repeat.rpartition(_MARK)[0] or repeat


def seed_of(seed: int, example: Example) -> int:
    """Return the seed that an example is answered by: its own, and the same in every evaluation."""
    return int(sha256_text(f"{seed} {example.id}")[:8], 16)


def pass_at_k(right: int, tries: int, k: int) -> float:
    """Return the chance that of k tries at a row one is right, without bias.

    Args:
        right: Tries that were right [count].
        tries: All of them [count], at least ``k``.
        k: How many would be made.

    Source:
        Chen et al. (2021), Evaluating Large Language Models Trained on Code, arXiv 2107.03374, equation 1.

    >>> pass_at_k(1, 2, 1), pass_at_k(1, 2, 2)
    (0.5, 1.0)
    """
    return 1.0 - math.comb(tries - right, k) / math.comb(tries, k)


def repeat_metrics(predictions: Sequence[Prediction], k: int, *, seed: int = 0) -> list[Metric]:
    """Return pass@k, and how often two answers to a row say the same; both are means over rows.

    Args:
        predictions: All repeats of all rows.
        k: Of pass@k, at most the repeats of a row.
        seed: For the bootstrap.
    """
    rows: defaultdict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        rows[row_of(prediction.id)].append(prediction)
    groups = [found[0].cluster or name for name, found in rows.items()]
    passed = [pass_at_k(sum(p.correct for p in found), len(found), k) for found in rows.values()]
    agreed = [_agreement(found) for found in rows.values()]
    return [
        mean_metric(PASS_AT_K, passed, clusters=groups, seed=seed).with_(title=f"pass@{k}"),
        mean_metric(REPEAT_AGREEMENT, agreed, clusters=groups, seed=seed),
    ]


def _agreement(found: Sequence[Prediction]) -> float:
    pairs = list(combinations([p.prediction for p in found], 2))
    return sum(same_text(one, other) for one, other in pairs) / len(pairs)
