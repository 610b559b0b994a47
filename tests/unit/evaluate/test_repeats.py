"""Rows answered several times: seeds, clusters, pass@k against all draws, agreement."""

from __future__ import annotations

from itertools import combinations

import pytest
from pydantic import ValidationError

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.core.engine import Generation, GenerationRequest
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.prompting import Subject
from tunery.evaluate.repeats import pass_at_k, repeated, row_of, seed_of
from tunery.evaluate.run import EvaluationResult, evaluate
from tunery.evaluate.task import make_task

QUESTIONS = [f"question {i}" for i in range(6)]


@pytest.mark.parametrize(("right", "tries"), [(0, 4), (1, 4), (2, 5), (5, 5)])
def test_pass_at_k_is_the_mean_over_all_draws(right: int, tries: int) -> None:
    outcomes = [True] * right + [False] * (tries - right)
    for k in range(1, tries + 1):
        draws = [any(draw) for draw in combinations(outcomes, k)]
        assert pass_at_k(right, tries, k) == pytest.approx(sum(draws) / len(draws))


class Varying(ScriptedEngine):
    """Answers rightly where the seed is even."""

    def generate(self, requests: list[GenerationRequest]) -> list[Generation]:
        self.seeds = [request.sampling.seed for request in requests]
        found = super().generate(requests)
        return [
            g if (r.sampling.seed or 0) % 2 == 0 else g.__class__(**{**_fields(g), "text": "wrong"})
            for g, r in zip(found, requests, strict=True)
        ]


def _fields(generation: Generation) -> dict[str, object]:
    return {name: getattr(generation, name) for name in generation.__slots__}


def run(**settings: object) -> EvaluationResult:
    rows = [example(q, "yes") for q in QUESTIONS]
    config = EvaluateConfig.model_validate({"perplexity_limit": 2, **settings})
    task = make_task(rows, data="d", config=config, main_metric="exact_match")
    return evaluate(
        Varying(dict.fromkeys(QUESTIONS, "yes")), CharTokenizer(), task, subject=Subject("s", "b")
    )


def test_every_repeat_has_a_seed_of_its_own_that_is_the_same_again() -> None:
    rows = repeated([example(q, "yes") for q in QUESTIONS], 3)
    seeds = [seed_of(0, row) for row in rows]
    assert len(set(seeds)) == 18
    assert seeds == [seed_of(0, row) for row in rows]
    assert seeds != [seed_of(1, row) for row in rows]
    assert {row_of(row.id) for row in rows} == {example(q, "yes").id for q in QUESTIONS}


def test_repeats_are_one_cluster_and_give_pass_at_k_and_agreement() -> None:
    result = run(repeats=4, temperature=0.7)
    metrics = result.evaluation.metrics
    rows: dict[str, list[bool]] = {}
    for p in result.predictions:
        rows.setdefault(row_of(p.id), []).append(p.correct)
        assert p.cluster == row_of(p.id)
    assert all(len(found) == 4 for found in rows.values())
    assert metrics["exact_match"].n == 24
    assert metrics["pass_at_k"].title == "pass@4"
    assert metrics["pass_at_k"].value == pytest.approx(sum(map(any, rows.values())) / 6)
    alike = [sum(x == y for x, y in combinations(found, 2)) / 6 for found in rows.values()]
    assert metrics["repeat_agreement"].value == pytest.approx(sum(alike) / 6)
    once = run(repeats=4, temperature=0.7, pass_k=1).evaluation.metrics
    assert once["pass_at_k"].value == pytest.approx(metrics["exact_match"].value)
    assert run(repeats=4, temperature=0.7).predictions == result.predictions
    assert compare(result.predictions, result.predictions).clusters == 6


def test_one_greedy_answer_leaves_everything_as_it_was() -> None:
    plain = run()
    assert "pass_at_k" not in plain.evaluation.metrics
    assert not {"repeats", "temperature", "pass_k"} & set(plain.evaluation.config)
    assert {p.id for p in plain.predictions} == {example(q, "yes").id for q in QUESTIONS}


def test_repeats_that_could_not_differ_are_refused() -> None:
    with pytest.raises(ValidationError, match="set a temperature"):
        EvaluateConfig(repeats=3)
    with pytest.raises(ValidationError, match="pass_k 4 takes as many repeats"):
        EvaluateConfig(repeats=3, temperature=0.5, pass_k=4)
