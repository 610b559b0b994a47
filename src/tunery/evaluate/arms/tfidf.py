"""The classifier that needs no language model: TF-IDF weights and logistic regression on the train split."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

from tunery.core.example import Example, prompt_text
from tunery.core.ids import artifact_id
from tunery.evaluate.ask import Completions
from tunery.evaluate.kept import Answer
from tunery.evaluate.prompting import Subject
from tunery.evaluate.task import Task

TFIDF = "tfidf"
_INVERSE_PENALTY = 10.0
"""scikit-learn's ``C``: less of a penalty than its default, as rows of length one need large weights."""
_WORD = r"(?u)\b\w+\b"
"""Those of one letter too."""
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
    model = _fitted(texts, labels)
    answers, began = [], time.monotonic()
    for question in questions:  # one at a time, as a server would be asked
        started = time.monotonic()
        label = str(model.predict([question])[0])
        answers.append(Answer(label, "stop", 0, 0, (time.monotonic() - started) * 1000))
    return Completions(tuple(answers), {}, 0, answering_s=time.monotonic() - began)


def _fitted(texts: Sequence[str], labels: Sequence[str]) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    if len(set(labels)) < 2:  # nothing to tell apart
        return DummyClassifier(strategy="most_frequent").fit(texts, labels or [""])
    fewest = 2 if len(texts) >= _MANY_ROWS else 1  # in a large set a term of one text tells little
    model = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD, min_df=fewest),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=fewest),
        ),
        LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MOST_STEPS),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that is cut short is the same at every run, and good enough
        return model.fit(texts, labels)
