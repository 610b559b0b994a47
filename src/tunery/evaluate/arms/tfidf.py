"""The classifier that needs no language model: TF-IDF weights and logistic regression on the train split."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

from tunery.core.example import Example, prompt_text
from tunery.core.ids import artifact_id
from tunery.evaluate.ask import Completions, answered
from tunery.evaluate.prompting import Subject
from tunery.evaluate.task import Task

TFIDF = "tfidf"
_INVERSE_PENALTY = 10.0
"""scikit-learn's ``C``: less of a penalty than its default, because weights of unit rows have to grow large."""
_MOST_STEPS = 100
_MANY_ROWS = 1000


def tfidf_subject(train: Sequence[Example]) -> Subject:
    """Return the classifier as a subject; what it depends on is the train rows and the way it is fitted."""
    ids = sorted(e.id for e in train)
    rows = artifact_id("rows", stage="rows", version=1, config={"ids": ids}, inputs={})
    return Subject(
        TFIDF, "scikit-learn", engine={"arm": TFIDF, "train": rows, "c": _INVERSE_PENALTY}, perplexity=False
    )


def classify(task: Task, train: Sequence[Example]) -> Completions:
    """Train the classifier and let it answer every question of a task; same rows, same answers.

    It reads what stands before the answer, the system turn left out: words and pairs of neighbours, and runs
    of two to four characters within a word.

    Args:
        task: With a closed label set.
        train: The train split; rows without a class are passed over.

    Source:
        Weights and fit as scikit-learn's ``TfidfVectorizer`` and ``LogisticRegression`` compute them.
    """
    rows = sorted((e for e in train if e.label is not None), key=lambda e: e.id)
    texts, labels = [prompt_text(e) for e in rows], [str(e.label) for e in rows]
    questions = [prompt_text(e) for e in task.examples]
    if len(set(labels)) < 2:  # nothing to tell apart
        return Completions(tuple(answered(labels[0] if labels else "") for _ in questions), {}, 0)
    model = _model(len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that is cut short is the same at every run, and good enough
        model.fit(texts, labels)
    found = []
    for question in questions:  # one at a time, as a server would be asked
        started = time.monotonic()
        label = str(model.predict([question])[0])
        found.append(answered(label, latency_ms=(time.monotonic() - started) * 1000))
    return Completions(tuple(found), {}, 0)


def _model(rows: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    fewest = 2 if rows >= _MANY_ROWS else 1  # in a large set a term of one text tells little
    return make_pipeline(
        make_union(
            TfidfVectorizer(
                ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", min_df=fewest
            ),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=fewest),
        ),
        LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MOST_STEPS),
    )
