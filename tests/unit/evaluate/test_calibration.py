"""Confidence: calibration error, Brier score, the risk-coverage curve, a threshold that holds an error."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.cli.evaluate import calibration_text
from tunery.core.engine import Generation, GenerationRequest, TokenEvent
from tunery.core.errors import ConfigError
from tunery.core.evaluation import Prediction
from tunery.evaluate.calibration import calibration, threshold_for
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.metrics import corpus_metric
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import evaluate
from tunery.evaluate.task import make_task


def rows(confidence: Sequence[float], right: Sequence[bool], *, name: str = "ex") -> list[Prediction]:
    return [
        Prediction(
            id=f"{name}-{i}", prediction="x", reference="x", correct=r, scores={"confidence": float(c)}
        )
        for i, (c, r) in enumerate(zip(confidence, right, strict=True))
    ]


def value(name: str, some: list[Prediction]) -> float:
    metric = corpus_metric(name, some)
    assert metric is not None
    return metric.value


def test_the_brier_score_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    sure = generator.random(300)
    right = generator.random(300) < sure
    assert value("brier", rows(sure, right)) == pytest.approx(brier_score_loss(right, sure))


def test_the_calibration_error_is_the_closed_form_and_near_nothing_for_a_calibrated_model() -> None:
    half = rows([0.6] * 50 + [0.9] * 50, [True] * 40 + [False] * 10 + [True] * 30 + [False] * 20)
    assert value("ece", half) == pytest.approx((0.2 + 0.3) / 2)
    generator = np.random.default_rng(0)
    sure = generator.random(20_000)
    assert value("ece", rows(sure, generator.random(20_000) < sure)) < 0.02


def test_the_curve_is_the_error_among_the_surest_answers() -> None:
    found = calibration(rows([0.9, 0.8, 0.7, 0.6], [True, False, True, False]), 0.02)
    assert [(p.coverage, p.error) for p in found.curve] == [
        (0.25, 0),
        (0.5, 0.5),
        (0.75, pytest.approx(1 / 3)),
        (1, 0.5),
    ]
    assert found.aurc == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found.threshold is None
    assert "no confidence holds 2.0 %" in calibration_text(found)


def test_the_threshold_needs_149_rows_without_an_error_for_2_percent() -> None:
    assert threshold_for(rows([0.9] * 148, [True] * 148), 0.02) is None
    assert threshold_for(rows([0.9] * 149, [True] * 149), 0.02) == 0.9


def test_the_threshold_holds_the_error_about_as_often_as_it_says() -> None:
    generator, broken = np.random.default_rng(2), 0
    for _ in range(200):
        sure = generator.random(400)
        chosen = threshold_for(rows(sure, generator.random(400) < 0.5 + sure / 2), 0.1)
        # wrong with chance (1 - c) / 2 at confidence c: from t on the mean is (1 - t) / 4
        broken += chosen is not None and (1 - chosen) / 4 > 0.1
    assert broken <= 200 * 0.05 + 10


class SureEngine(ScriptedEngine):
    """Gives every token the same log-probability where it is asked for it."""

    def _answer(self, request: GenerationRequest) -> Generation:
        answer = super()._answer(request)
        if request.sampling.logprobs is None:
            return answer
        tokens = tuple(TokenEvent(i, "", -0.5, ()) for i in answer.token_ids)
        return replace(answer, tokens=tokens)


def test_an_evaluation_measures_confidence_where_it_is_switched_on_and_keeps_its_id_where_not() -> None:
    examples = [example(f"q{i}", "ab" if i % 2 else "a") for i in range(12)]
    engine = SureEngine({f"q{i}": "a" for i in range(12)})
    found = {}
    for on in (True, False):
        config = EvaluateConfig(metrics=("exact_match",), confidence=on)
        task = make_task(examples, data="d", config=config, main_metric="exact_match")
        found[on] = evaluate(engine, CharTokenizer(), task, subject=Subject("tuned", "tiny@sha256:0"))
    sure = found[True]
    assert {"ece", "brier", "coverage_at_error"} <= set(sure.evaluation.metrics)
    assert sure.predictions[0].scores["confidence"] == pytest.approx(np.exp(-0.5))
    assert sure.evaluation.metrics["ece"].value == pytest.approx(np.exp(-0.5) - 0.5)
    assert sure.evaluation.calibration is not None
    assert sure.evaluation.calibration.curve[-1].error == 0.5
    assert "confidence" not in found[False].evaluation.config
    assert found[False].evaluation.calibration is None
    assert found[False].evaluation.id != sure.evaluation.id
    config = EvaluateConfig(metrics=("ece",))
    with pytest.raises(ConfigError, match=r"ece needs evaluate\.confidence: true"):
        make_task(examples, data="d", config=config, main_metric="exact_match")
