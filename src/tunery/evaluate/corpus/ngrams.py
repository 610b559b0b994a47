"""What BLEU and chrF sum over rows, counted by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunery.evaluate.corpus import texts_of

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats


def counted(rows: Sequence[Row], metric: Any) -> Floats:
    """Return the counts that a metric of sacrebleu sums, one row each.

    Half a surrogate pair is written as ``?``: it is no character that a reference could hold.
    """
    import numpy as np

    answers, references = texts_of(rows)
    whole = [[text.encode("utf-8", "replace").decode() for text in side] for side in (answers, references)]
    # sacrebleu's own significance tests resample these counts.
    return np.asarray(metric._extract_corpus_statistics(whole[0], [whole[1]]), dtype=np.float64)


def signature_of(metric: Any) -> str:
    """Return sacrebleu's signature, by which two figures are known to be comparable."""
    metric.corpus_score(["a"], [["a"]])  # it names the number of references, which only then is known
    return str(metric.get_signature())
