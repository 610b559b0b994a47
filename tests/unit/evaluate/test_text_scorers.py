"""Scorers of free text, each beside the library or the closed form that it equals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from tests.unit.evaluate.scripted import example
from tunery.evaluate.scorers import DetailedScorer, make_scorer

TEXTS = st.lists(
    st.sampled_from(["the", "cat", "sat", "running", "runs", "mats", ".", ",", "Über"]), max_size=12
).map(" ".join)


@pytest.mark.parametrize(
    ("answer", "reference", "f1"),
    [
        ("the Norman dukes", "Norman, dukes!", 1.0),
        ("a a b", "a b b", 2 * 1 / (1 + 2)),  # the article goes: b against b b
        ("one two three", "two four", 2 * 1 / 5),
        ("two two", "two", 2 * 1 / 3),
        ("", "x", 0.0),
        ("the", "", 1.0),
        ("-", "+", 0.0),
        ("+", "+", 1.0),
        ("x\ud800", "x", 0.0),
    ],
)
def test_token_f1_is_the_harmonic_mean_of_shared_words(answer: str, reference: str, f1: float) -> None:
    assert make_scorer("token_f1").score(answer, example("q", reference)) == pytest.approx(f1)


def test_token_f1_counts_an_answer_as_right_when_the_words_are_the_same() -> None:
    scorer = make_scorer("token_f1")
    assert scorer.correct("The five days.", example("q", "five days"))
    assert not scorer.correct("five", example("q", "five days"))


@given(TEXTS, TEXTS)
def test_rouge_equals_rouge_scores_figures(answer: str, reference: str) -> None:
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    expected = RougeScorer(kinds, use_stemmer=True).score(reference, answer)
    scorer = make_scorer("rouge")
    assert isinstance(scorer, DetailedScorer)
    found = scorer.parts(answer, example("q", reference or " "))
    assert found == pytest.approx({kind: expected[kind].fmeasure for kind in kinds})


def test_rouge_of_sentences_on_lines_equals_rouge_scores() -> None:
    pairs = [
        ("the cat sat\non mats", "a cat sat\nby the mats"),
        ("five days", "within five days"),
        ("no", "yes"),
    ]
    plain = RougeScorer(["rougeLsum"], use_stemmer=True)
    scorer, found = make_scorer("rouge"), []
    assert isinstance(scorer, DetailedScorer)
    for answer, reference in pairs:
        found.append(scorer.parts(answer, example("q", reference))["rougeLsum"])
    scores = [plain.score(r, a)["rougeLsum"].fmeasure for a, r in pairs]
    assert sum(found) / 3 == pytest.approx(sum(scores) / 3)


def test_rouge_reads_a_very_long_answer_in_bounded_time() -> None:
    assert make_scorer("rouge").score("word " * 200_000, example("q", "word")) < 0.01
