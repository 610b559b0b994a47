"""The classifier without a language model: scikit-learn's own figures, the same at every run."""

import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from tests.unit.evaluate.scripted import example
from tunery.core.figures import is_prompting
from tunery.evaluate.arms.tfidf import classify, tfidf_subject
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.run import evaluation_id, judged
from tunery.evaluate.task import Task, make_task

WORDS = {
    "card": ("card", "chip", "plastic", "pin"),
    "loan": ("loan", "rate", "mortgage", "debt"),
    "app": ("app", "phone", "login", "screen"),
}
TRAIN = [
    example(f"{start} {word} {end}", label, label=label, system="Name the intent.")
    for label, words in WORDS.items()
    for word in words
    for start, end in (("where is my", "now"), ("I lost the", "again"))
]
TEST = [
    example(f"please help with my {word}s", label, label=label, system="Name the intent.")
    for label, words in WORDS.items()
    for word in words
]


def task() -> Task:
    return make_task(
        TEST, data="ds-1/test", config=EvaluateConfig(), main_metric="exact_match", labels=sorted(WORDS)
    )


def test_it_answers_as_scikit_learns_pipeline_does_on_the_same_rows() -> None:
    model = make_pipeline(
        make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True),
        ),
        LogisticRegression(C=10),
    ).fit([e.prompt[-1].content for e in TRAIN], [e.label for e in TRAIN])
    expected = model.predict([e.prompt[-1].content for e in TEST]).tolist()
    answers = classify(task(), TRAIN)
    assert [a.text for a in answers.answers] == expected
    assert [a.text for a in classify(task(), TRAIN[::-1]).answers] == expected


def test_it_learns_words_and_its_evaluation_is_no_prompting() -> None:
    started = time.monotonic()
    result = judged(task(), tfidf_subject(TRAIN), classify(task(), TRAIN), started=started)
    assert result.evaluation.main.value > 0.9
    assert result.evaluation.arm == "tfidf"
    assert not is_prompting(result.evaluation)
    assert result.evaluation.latency_p95_ms is not None
    assert result.evaluation.prompt_tokens is None


def test_its_evaluation_is_another_with_other_train_rows() -> None:
    whole, less = tfidf_subject(TRAIN), tfidf_subject(TRAIN[:-1])
    assert evaluation_id(task(), whole) == evaluation_id(task(), tfidf_subject(TRAIN[::-1]))
    assert evaluation_id(task(), whole) != evaluation_id(task(), less)


def test_with_one_class_to_learn_it_answers_that_one() -> None:
    cards = [row for row in TRAIN if row.label == "card"]
    assert {a.text for a in classify(task(), cards).answers} == {"card"}
