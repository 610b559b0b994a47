"""Text similarities of OpenAI's graders, each by the library that defines it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

Encoder = Callable[[Sequence[str]], Any]


def similarity(metric: str, text: str, reference: str, encoder: Encoder | None) -> float:
    """Return how like two texts are, in [0, 1].

    ``fuzzy_match`` is rapidfuzz's ratio (edits between the texts, insertions and deletions, over their
    lengths); ``bleu`` sacrebleu's BLEU of the sentence; ``gleu`` and ``meteor`` are NLTK's, the latter with
    stems and without synonyms; ``rouge_N`` and ``rouge_l`` are the F1 of rouge-score; ``cosine`` is that of
    the embedding model, and 0 where it is negative.
    """
    if metric == "cosine":
        if encoder is None:
            raise ValueError("cosine needs an embedding model, and this evaluation has none")
        one, other = encoder([text, reference])
        return min(1.0, max(0.0, float(one @ other)))
    return min(1.0, max(0.0, _MEASURES.get(metric, _rouge(metric))(text, reference)))


def _fuzzy(text: str, reference: str) -> float:
    from rapidfuzz import fuzz

    return fuzz.ratio(text, reference) / 100


def _bleu(text: str, reference: str) -> float:
    import sacrebleu

    return float(sacrebleu.sentence_bleu(text, [reference]).score) / 100


def _gleu(text: str, reference: str) -> float:
    from nltk.translate.gleu_score import sentence_gleu  # type: ignore[import-untyped]  # ships no types

    return float(sentence_gleu([reference.split()], text.split())) if text.split() else 0.0


def _meteor(text: str, reference: str) -> float:
    from nltk.translate.meteor_score import meteor_score  # type: ignore[import-untyped]  # ships no types

    return float(meteor_score([reference.split()], text.split(), wordnet=_NoSynonyms()))


class _NoSynonyms:
    """Stands for a thesaurus, which would have to be downloaded."""

    def synsets(self, word: str) -> tuple[()]:
        """Return no synonyms."""
        return ()


def _rouge(metric: str) -> Callable[[str, str], float]:
    kind = f"rouge{metric.partition('_')[2].upper()}"
    return lambda text, reference: float(_rouge_scorer(kind).score(reference, text)[kind].fmeasure)


@cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]  # ships no types

    return RougeScorer([kind], use_stemmer=True)


_MEASURES = {"fuzzy_match": _fuzzy, "bleu": _bleu, "gleu": _gleu, "meteor": _meteor}
