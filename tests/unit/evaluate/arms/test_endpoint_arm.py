"""A model behind an endpoint as an arm, over a real socket: paid for once, failures counted as wrong."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.evaluate.scripted import CharTokenizer, example
from tests.unit.synthesise.teacher import KEY, Teacher, serving
from tunery.core.errors import ConfigError
from tunery.endpoint.ask import OVER_BUDGET, Asking
from tunery.evaluate.arms.config import EndpointArm
from tunery.evaluate.arms.endpoint import ask_endpoint, endpoint_subject
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.run import EvaluationResult, judged
from tunery.evaluate.task import Task, make_task

LABELS = ("card", "loan")
TRAIN = [example(f"old {i}", LABELS[i % 2], label=LABELS[i % 2]) for i in range(10)]
TEST = [example(f"question {i}", LABELS[i % 2], label=LABELS[i % 2], system="Name it.") for i in range(10)]
RIGHT = {f"question {i}": LABELS[i % 2] for i in range(10)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    """A model that knows every answer."""
    monkeypatch.setenv("ASKED_KEY", KEY)
    with serving(Teacher(say=lambda body: RIGHT[body["messages"][-1]["content"]])) as running:
        yield running


def arm(server: Teacher, **settings: object) -> EndpointArm:
    fixed = {"base_url": server.url, "model": "big", "api_key_env": "ASKED_KEY"}
    fixed |= {"timeout_s": 0.5, "backoff_s": 0.01, "attempts": 2}
    return EndpointArm.model_validate({**fixed, "max_tokens": 16, **settings})


def task() -> Task:
    return make_task(
        TEST, data="ds-1/test", config=EvaluateConfig(), main_metric="exact_match", labels=LABELS
    )


def measured(config: EndpointArm, folder: Path) -> EvaluationResult:
    subject = endpoint_subject("gpt", config, task(), TRAIN, CharTokenizer())
    started = time.monotonic()
    return judged(task(), subject, ask_endpoint(config, task(), subject, folder, Asking()), started=started)


def test_it_is_asked_as_prompted_baselines_are_and_pays_once(server: Teacher, tmp_path: Path) -> None:
    config = arm(server, price_prompt=1.0, price_completion=2.0, shots=2)
    first = measured(config, tmp_path)
    assert first.evaluation.main.value == 1.0
    assert first.evaluation.arm == "endpoint"
    turns = server.bodies[0]["messages"]
    assert [t["role"] for t in turns] == ["system", *["user", "assistant"] * 2, "user"]
    assert turns[0]["content"] == (
        "Name it.\n\nAnswer with exactly one of these labels and nothing else:\n- card\n- loan"
    )
    found = first.evaluation
    assert found.usd == pytest.approx((found.prompt_tokens * 1.0 + found.completion_tokens * 2.0) / 1e6)
    assert found.usd_per_1k(None) == pytest.approx(found.usd * 100)
    assert found.latency_p95_ms > 0
    sent = len(server.bodies)
    assert measured(config, tmp_path).predictions == first.predictions
    assert len(server.bodies) == sent == len(TEST)


def test_a_killed_evaluation_asks_only_for_what_it_has_no_answer_to(server: Teacher, tmp_path: Path) -> None:
    whole = measured(arm(server), tmp_path / "whole").predictions
    config, answers = arm(server, concurrency=1), server.bodies
    asked = len(answers)

    def stop() -> bool:
        return len(answers) >= asked + 4

    subject = endpoint_subject("gpt", config, task(), TRAIN, CharTokenizer())
    with pytest.raises(KeyboardInterrupt):
        ask_endpoint(config, task(), subject, tmp_path / "cut", Asking(should_stop=stop))
    kept = len(answers) - asked
    assert 0 < kept < len(TEST)
    assert measured(config, tmp_path / "cut").predictions == whole
    assert len(answers) - asked == len(TEST)


@pytest.mark.parametrize("fault", [429, 500, "nonsense", "hang"])
def test_a_row_without_an_answer_counts_as_wrong_with_its_reason(
    fault: int | str, server: Teacher, tmp_path: Path
) -> None:
    server.faults = [fault, fault]
    result = measured(arm(server, concurrency=1), tmp_path)
    assert len(result.predictions) == len(TEST)
    (lost,) = [p for p in result.predictions if p.finish_reason == "error"]
    assert not lost.correct
    assert lost.reason
    assert result.evaluation.main.value == pytest.approx(0.9)
    assert result.evaluation.main.n == len(TEST)
    assert "1 of 10 rows got no answer and count as wrong" in result.evaluation.warnings[0]


def test_what_the_budget_does_not_pay_for_is_counted(server: Teacher, tmp_path: Path) -> None:
    result = measured(arm(server, budget_tokens=280, concurrency=1), tmp_path)
    errors = [p for p in result.predictions if p.finish_reason == "error"]
    assert {p.reason for p in errors} == {OVER_BUDGET}
    assert 0 < len(errors) < len(TEST)
    assert result.evaluation.main.value == pytest.approx(1 - len(errors) / len(TEST))


def test_a_key_that_is_refused_ends_it_and_a_budget_in_money_needs_prices(
    server: Teacher, tmp_path: Path
) -> None:
    server.faults = [401] * 20
    with pytest.raises(ConfigError, match="the key is refused"):
        measured(arm(server), tmp_path)
    with pytest.raises(ValueError, match="price_prompt"):
        arm(server, budget_usd=1.0)
