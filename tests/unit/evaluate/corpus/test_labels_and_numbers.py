"""Micro-F1, label sets, latency and length beside scikit-learn and NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from tests.unit.evaluate.judged import judged, measured
from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.core.figures import metric_interval, metric_phrase, metric_value
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.metrics import corpus_metric
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import evaluate
from tunery.evaluate.scorers import DetailedScorer, ScorerOptions, make_scorer
from tunery.evaluate.task import make_task

pairs = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([*"abcde", "none"])), min_size=1, max_size=40
)
sets = st.lists(
    st.tuples(st.sets(st.sampled_from("abcd"), max_size=4), st.sets(st.sampled_from("abcdx"), max_size=4)),
    min_size=1,
    max_size=25,
)


@given(pairs)
def test_micro_f1_equals_scikit_learns(rows: list[tuple[str, str]]) -> None:
    references, answers = [list(side) for side in zip(*rows, strict=True)]
    labels = sorted(set(references))
    expected = f1_score(references, answers, labels=labels, average="micro", zero_division=0)
    assert measured("micro_f1", answers, references) == pytest.approx(expected)


def test_micro_f1_is_accuracy_where_every_answer_is_a_label() -> None:
    references, answers = list("aabbcc"), list("abbbca")
    assert measured("micro_f1", answers, references) == pytest.approx(accuracy_score(references, answers))


@given(sets)
def test_label_sets_equal_scikit_learns_figures(rows: list[tuple[set[str], set[str]]]) -> None:
    wanted, given_ = [list(side) for side in zip(*rows, strict=True)]
    labels = sorted(set().union(*wanted))
    if not labels:
        return
    references, answers = [[", ".join(sorted(one)) for one in side] for side in (wanted, given_)]
    binary = MultiLabelBinarizer(classes=[*"abcd", "x"])
    truth, found = binary.fit_transform(wanted), binary.transform(given_)
    known = [binary.classes_.tolist().index(label) for label in labels]
    # what no reference holds is one class of false alarms
    strange = found.sum(axis=1) - found[:, known].sum(axis=1)
    hits = (truth & found).sum()
    micro = 2 * hits / max(1, truth.sum() + found[:, known].sum() + strange.sum())
    assert measured("multi_label_micro_f1", answers, references) == pytest.approx(micro)
    assert micro == pytest.approx(f1_score(truth, found, average="micro", zero_division=0))
    macro = f1_score(truth, found, labels=known, average="macro", zero_division=0)
    assert measured("multi_label_macro_f1", answers, references) == pytest.approx(macro)
    scorer = make_scorer("multi_label", ScorerOptions(references=references))
    assert isinstance(scorer, DetailedScorer)
    rows_ = [(a, example("q", r)) for a, r in zip(answers, references, strict=True)]
    exact = np.mean([scorer.score(a, e) for a, e in rows_])
    assert exact == pytest.approx(accuracy_score(truth, found))
    samples = np.mean([scorer.parts(a, e)["sample_f1"] for a, e in rows_])
    assert samples == pytest.approx(f1_score(truth, found, average="samples", zero_division=1))


def test_a_label_set_may_be_json_and_its_labels_signs() -> None:
    references = ['["+", "-"]', '["+"]', "[]"]
    scorer = make_scorer("multi_label", ScorerOptions(references=references))
    assert scorer.correct("-, +", example("q", references[0]))
    assert not scorer.correct("+", example("q", references[0]))
    assert not scorer.correct("-", example("q", references[1]))
    assert scorer.correct("", example("q", references[2]))


@pytest.mark.parametrize("n", [1, 2, 7, 40, 5000])
@pytest.mark.parametrize(("name", "share"), [("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95)])
def test_a_latency_quantile_is_numpys(n: int, name: str, share: float) -> None:
    values = np.random.default_rng(n).lognormal(5, 1, n)
    metric = corpus_metric(name, judged(["x"] * n, latency_ms=values.tolist()))
    if n == 1:
        assert metric is None
        return
    assert metric is not None
    assert metric.value == np.quantile(values, share, method="inverted_cdf")
    assert metric.ci95[0] <= metric.value <= metric.ci95[1]
    assert (metric.unit, metric.higher_is_better) == ("ms", False)


def test_a_latency_quantiles_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(1), 0
    for seed in range(100):
        rows = judged(["x"] * 120, latency_ms=generator.exponential(100, 120).tolist())
        metric = corpus_metric("latency_p50_ms", rows, seed=seed)
        assert metric is not None
        covered += metric.ci95[0] <= 100 * np.log(2) <= metric.ci95[1]
    assert covered >= 89


def test_a_slower_model_is_worse_and_says_so_in_ms() -> None:
    times = np.random.default_rng(0).lognormal(5, 0.3, 200)
    a, b = (
        judged(["x"] * 200, latency_ms=times.tolist()),
        judged(["x"] * 200, latency_ms=(2 * times).tolist()),
    )
    compared = compare(a, b, metric="latency_p95_ms")
    assert (compared.verdict, compared.unit) == ("worse", "ms")
    assert compared.value_b == pytest.approx(2 * compared.value_a)  # type: ignore[operator]


def test_an_evaluation_measures_length_and_latency_in_their_units() -> None:
    rows = [example(f"q{i}", "yes") for i in range(4)]
    engine = ScriptedEngine({f"q{i}": "y" * (i + 1) for i in range(4)})
    metrics = ("length_tokens", "length_characters", "latency_p50_ms")
    task = make_task(rows, data="d", config=EvaluateConfig(metrics=metrics), main_metric="exact_match")
    found = evaluate(engine, CharTokenizer(), task, subject=Subject("tuned", "tiny@sha256:0"))
    length = found.evaluation.metrics["length_characters"]
    assert (length.value, metric_value(length)) == (2.5, "2.50 characters")
    assert found.evaluation.metrics["length_tokens"].value == 3.5  # the stop token counts
    assert metric_interval(found.evaluation.metrics["latency_p50_ms"]) == "1–1 ms"
    assert metric_phrase(found.evaluation.metrics["latency_p50_ms"]) == "a latency p50 of 1 ms"
    assert found.predictions[0].scores["latency_ms"] == 1.0
