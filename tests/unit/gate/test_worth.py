"""Worth in words: the figures are those of the records, and the payback is the closed form."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tunery.core.evaluation import Comparison, Evaluation, Metric
from tunery.core.statistics import wilson_interval
from tunery.gate.worth import Terms, worth

N = 1000


def measured(subject: str, value: float, **changes: Any) -> Evaluation:
    metric = Metric(name="exact_match", value=value, n=N, ci95=wilson_interval(value * N, N), method="wilson")
    return Evaluation(
        id=f"eval-{subject}",
        subject=subject,
        base="tiny@sha256:0",
        adapter="ad-1" if subject == "tuned" else None,
        data="ds-1/test",
        main_metric="exact_match",
        metrics={"exact_match": metric},
        config={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
        **changes,
    )


def against(arm: str, difference: float, p_value: float, n: int = N) -> Comparison:
    return Comparison(
        a=arm,
        b="tuned",
        metric="exact_match",
        n=n,
        fixed=1,
        broken=1,
        p_value=p_value,
        difference=difference,
        ci95=(difference - 0.02, difference + 0.02),
        test="mcnemar_exact",
        verdict="better",
    )


def test_a_gain_that_is_not_shown_over_a_plain_classifier_is_said_with_its_numbers() -> None:
    evaluations = {
        "few_shot": measured("few_shot", 0.3),
        "tfidf": measured("tfidf", 0.72, arm="tfidf"),
        "tuned": measured("tuned", 0.73),
    }
    comparisons = {"few_shot": against("few_shot", 0.43, 1e-9), "tfidf": against("tfidf", 0.01, 0.6)}
    assert worth(evaluations, comparisons, Terms(target=0.7)) == (
        "Prompting alone reaches 30.0 % exact match (few-shot prompting), 42.9 % of the target of 70.0 %.",
        "The tuned model is better than few-shot prompting: 73.0 % against 30.0 %, +43.0 points (95 % "
        "interval +41.0 to +45.0, p < 0.001).",
        "The tuned model is not shown to be better than TF-IDF with logistic regression: 73.0 % against "
        "72.0 %, +1.0 points (95 % interval −1.0 to +3.0, p = 0.60).",
    )


@pytest.mark.parametrize(
    ("prompting", "said"),
    [(0.55, "of the target of 70.0 %."), (0.56, "think twice"), (0.71, "reached without any training")],
)
def test_near_the_target_prompting_makes_one_think_twice(prompting: float, said: str) -> None:
    evaluations = {"zero_shot": measured("zero_shot", prompting), "tuned": measured("tuned", 0.9)}
    assert said in worth(evaluations, {}, Terms(target=0.7))[0]


def test_training_pays_back_after_its_price_over_the_saving_of_a_request() -> None:
    evaluations = {
        "gpt": measured("gpt", 0.95, arm="endpoint", usd=2.0),
        "cheap": measured("cheap", 0.5, arm="endpoint", usd=0.001),
        "tuned": measured("tuned", 0.9, answering_s=360.0),
    }
    # Own hardware: 360 s of 1,000 rows at $1 an hour are $0.10; the endpoint takes $2.00 for as many.
    # Half an hour of training costs $0.50, so 0.50 / 1.90 * 1,000 = 263.2 requests, rounded up to 270.
    found = worth(evaluations, {}, Terms(price_per_hour=1.0, training_s=1800))
    assert found[-1] == (
        "Training took 30 min 00 s, $0.50; against gpt it has paid itself after 270 requests."
    )
    assert "Tuned $0.10, Gpt $2.00" in found[-2]


def test_an_arm_as_good_and_as_cheap_means_that_training_never_pays_back() -> None:
    evaluations = {
        "tfidf": measured("tfidf", 0.9, arm="tfidf", answering_s=1.0),
        "tuned": measured("tuned", 0.9, answering_s=360.0),
    }
    terms = Terms(price_per_hour=1.0, training_s=60)
    assert (
        "it never pays back: TF-IDF with logistic regression is as good" in worth(evaluations, {}, terms)[-1]
    )
    better = {**evaluations, "tuned": measured("tuned", 0.91, answering_s=360.0)}
    assert "what it bought is quality, not a saving" in worth(better, {}, terms)[-1]


def test_without_prices_nothing_is_said_of_money_and_without_a_tuned_model_nothing_at_all() -> None:
    evaluations = {"few_shot": measured("few_shot", 0.3, answering_s=5.0), "tuned": measured("tuned", 0.7)}
    assert not any("$" in sentence for sentence in worth(evaluations, {}, Terms(training_s=60)))
    assert worth({"few_shot": measured("few_shot", 0.3)}, {}, Terms()) == ()


def test_answers_of_people_have_no_price_of_this_machine() -> None:
    assert measured("agents", 0.9, arm="answers", answering_s=1.0).usd_per_1k(1.0) is None
