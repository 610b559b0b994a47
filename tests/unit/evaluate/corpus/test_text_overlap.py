"""BLEU and chrF are sacrebleu's corpus figures, and are compared as such."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tests.unit.evaluate.judged import judged, measured
from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.evaluate.comparison import compare, compare_files
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.metrics import corpus_metric
from tunery.evaluate.predictions import write_predictions
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import evaluate, evaluation_id
from tunery.evaluate.task import make_task

REFERENCES = [
    "The cat sat on the mat, and the dog watched it closely.",
    "Your card is on its way; it arrives within five days.",
    "München liegt an der Isar.",
    "我们 明天 去 北京 开会 。",
] * 5
ANSWERS = [
    "The cat sat on a mat and the dog was watching it closely.",
    "Your card is on the way and arrives in five days.",
    "Die Stadt München liegt an der Isar.",
    "我们 今天 去 北京 开会 。",
    "",
] * 4
words = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", ".", ",", "xy"]), max_size=9).map(" ".join),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("tokenizer", ["13a", "intl", "char", "zh", "none"])
def test_bleu_equals_sacrebleus(tokenizer: str) -> None:
    expected = BLEU(tokenize=tokenizer).corpus_score(ANSWERS, [REFERENCES]).score
    assert expected > 1
    assert measured("bleu", ANSWERS, REFERENCES, bleu_tokenizer=tokenizer) * 100 == pytest.approx(expected)


def test_chrf_equals_sacrebleus() -> None:
    expected = CHRF().corpus_score(ANSWERS, [REFERENCES]).score
    assert measured("chrf", ANSWERS, REFERENCES) * 100 == pytest.approx(expected)


@given(words, words)
def test_both_equal_sacrebleus_on_any_rows(answers: list[str], references: list[str]) -> None:
    pairs = list(zip(answers, references, strict=False))
    answers, references = [list(side) for side in zip(*pairs, strict=True)]
    found = [measured(name, answers, references) * 100 for name in ("bleu", "chrf")]
    expected = [m.corpus_score(answers, [references]).score for m in (BLEU(), CHRF())]
    assert found == pytest.approx(expected, abs=1e-9)


def test_bleu_is_no_mean_of_rows_and_its_interval_lies_around_it() -> None:
    metric = corpus_metric("bleu", judged(ANSWERS, REFERENCES))
    assert metric is not None
    rows = [measured("bleu", [a], [r]) for a, r in zip(ANSWERS, REFERENCES, strict=True)]
    assert abs(metric.value - float(np.mean(rows))) > 0.005
    assert metric.ci95[0] < metric.value < metric.ci95[1]
    assert metric.method == "bootstrap"


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_two_models_are_compared_by_the_corpus_figure(name: str) -> None:
    a, b = judged(ANSWERS, REFERENCES), judged(REFERENCES, REFERENCES)
    compared = compare(a, b, metric=name)
    assert compared.value_a == pytest.approx(measured(name, ANSWERS, REFERENCES))
    assert compared.value_b == pytest.approx(1)
    assert (compared.verdict, compared.test) == ("better", "randomization")
    assert compare(a, a, metric=name).p_value == 1


def test_files_of_answers_can_be_compared_by_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_predictions(a, judged(ANSWERS, REFERENCES))
    write_predictions(b, judged(REFERENCES, REFERENCES))
    assert compare_files(a, b, metric="bleu").value_a == pytest.approx(measured("bleu", ANSWERS, REFERENCES))


def test_an_evaluation_records_sacrebleus_signature_and_other_evaluations_keep_their_ids() -> None:
    rows = [example(f"q{i}", r) for i, r in enumerate(REFERENCES)]
    engine = ScriptedEngine({f"q{i}": a for i, a in enumerate(ANSWERS)})
    subject = Subject("zero_shot", "tiny@sha256:0")
    ids = set()
    for tokenizer in ("13a", "char"):
        config = EvaluateConfig(metrics=("bleu", "chrf"), bleu_tokenizer=tokenizer)  # type: ignore[arg-type]
        task = make_task(rows, data="d", config=config, main_metric="bleu")
        found = evaluate(engine, CharTokenizer(), task, subject=subject).evaluation
        ids.add(found.id)
        assert f"tok:{tokenizer}" in found.config["signatures"]["bleu"]
        assert "nrefs:1" in found.config["signatures"]["chrf"]
        expected = BLEU(tokenize=tokenizer).corpus_score([a[:64] for a in ANSWERS], [REFERENCES]).score
        assert found.main.value * 100 == pytest.approx(expected)
    assert len(ids) == 2
    plain = make_task(
        rows, data="d", config=EvaluateConfig(metrics=("exact_match",)), main_metric="exact_match"
    )
    assert "bleu_tokenizer" not in evaluate(engine, CharTokenizer(), plain, subject=subject).evaluation.config
    assert evaluation_id(plain, subject)
