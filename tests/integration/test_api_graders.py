"""Graders through the unmodified client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.live_api import live
from tests.integration.test_api_surface import unused
from tunery.api.config import ServerSettings
from tunery.graders.sandbox import missing_walls
from tunery.store.workspace import Workspace

EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "operation": "eq",
}
CODE = {"type": "python", "name": "code"}


@pytest.fixture
def graders(workspace: Workspace, tiny_model: Path) -> Iterator[Any]:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=settings, open_base=unused) as running:
        yield running.client().fine_tuning.alpha.graders


def test_a_grader_is_checked_and_run_on_one_answer(graders: Any) -> None:
    assert graders.validate(grader=EXACT).grader.operation == "eq"
    right = graders.run(grader=EXACT, model_sample="card", item={"label": "card"})
    assert (right.reward, right.metadata.type, right.metadata.scores) == (1.0, "string_check", {"exact": 1.0})
    assert not any(v for n, v in right.metadata.errors.model_dump().items() if n.endswith("_error"))
    assert graders.run(grader=EXACT, model_sample="card", item={"label": "top up"}).reward == 0.0
    unknown = graders.run(grader=EXACT, model_sample="card", item={})
    assert unknown.metadata.errors.invalid_variable_error
    likeness = {**EXACT, "type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match"}
    del likeness["operation"]
    both = {
        "type": "multi",
        "name": "both",
        "graders": {"a": EXACT, "b": likeness},
        "calculate_output": "0.5 * a + 0.5 * b",
    }
    mixed = graders.run(grader=both, model_sample="cards", item={"label": "card"})
    assert mixed.sub_rewards["a"] == 0.0
    assert mixed.reward == pytest.approx(0.5 * mixed.sub_rewards["b"]) != 0


def test_what_is_no_grader_or_would_take_too_long_is_refused(graders: Any) -> None:
    for wrong, match in (
        ({**EXACT, "operation": "almost"}, "operation"),
        ({"type": "python", "name": "x", "source": "def other(): pass"}, "grade"),
        ({"type": "nothing"}, "type"),
        ({**EXACT, "reference": "x" * 20_000}, "16,384"),
    ):
        with pytest.raises(openai.BadRequestError, match=match):
            graders.validate(grader=wrong)
    asking = {
        "type": "score_model",
        "name": "judge",
        "model": "gpt",
        "input": [{"role": "user", "content": "good?"}],
    }
    with pytest.raises(openai.BadRequestError, match="not run here"):
        graders.run(grader=asking, model_sample="x", item={})
    long = {**EXACT, "input": "{{item.label}}" * 10}
    with pytest.raises(openai.BadRequestError, match="8,000"):
        graders.run(grader=long, model_sample="x", item={"label": "y" * 10_000})


def test_code_runs_behind_walls_or_not_at_all(graders: Any) -> None:
    good = {**CODE, "source": "def grade(sample, item):\n    return len(sample['output_text']) / 10"}
    if missing_walls() is not None:
        with pytest.raises(openai.BadRequestError, match="are not run here"):
            graders.run(grader=good, model_sample="12345", item={})
        return
    assert graders.run(grader=good, model_sample="12345", item={}).reward == 0.5
    reading = "def grade(sample, item):\n    return float(open('/etc/passwd').read() != '')"
    refused = graders.run(grader={**CODE, "source": reading}, model_sample="x", item={})
    assert refused.reward == 0.0
    assert refused.metadata.errors.python_grader_runtime_error
    assert refused.metadata.errors.python_grader_runtime_error_details
