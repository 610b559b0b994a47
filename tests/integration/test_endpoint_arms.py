"""A model behind an endpoint as an arm of whole runs: measured, judged against, asked again for errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures_cli import Tunery, home, tunery
from tests.unit.synthesise.teacher import KEY, Teacher, serving

__all__ = ["home", "tunery"]

WORDS = ("amber", "basil", "candle", "dragon", "ember", "fossil", "garden", "harbour", "island", "jacket")
RECIPE = """\
name: arms
goal: {{metric: exact_match}}
base: {base}
data:
  sources: [{{path: rows.csv, columns: {{input: text, output: label, metadata: [word]}}}}]
  split: {{test: 6, validation: 0}}
train: {{epochs: 1, batch_size: 8, rank: 2, threads: 1, device: cpu, smoke: false}}
evaluate:
  suites_off: not tested
  max_new_tokens: 4
  slices: [label]
  baseline: {{few_shot: false, constrained: false, perplexity: false, tfidf: false}}
  arms:
    gpt:
      {{base_url: "{url}", model: big, api_key_env: ASKED_KEY, max_tokens: 16, attempts: 1, backoff_s: 0.01,
        concurrency: 1, price_prompt: 1, price_completion: 2}}
gate: {{rules: ["{rule}"]}}
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    """A model that knows every answer."""
    monkeypatch.setenv("ASKED_KEY", KEY)
    with serving(Teacher(say=lambda body: body["messages"][-1]["content"].split()[1])) as running:
        yield running


def recipe(folder: Path, base: Path, server: Teacher, rule: str = "gain over gpt >= 0 (shown)") -> Path:
    rows = [
        f"please {what} my {word} {other},{what},{word}"
        for what in ("block", "renew")
        for word, other in zip(WORDS, WORDS[3:] + WORDS[:3], strict=True)
    ]
    (folder / "rows.csv").write_text("\n".join(["text,label,word", *rows]) + "\n", encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(base=base, url=server.url, rule=rule), encoding="utf-8")
    return path


def test_rows_that_an_endpoint_failed_on_are_asked_again_and_the_gate_judges_anew(
    server: Teacher, tmp_path: Path, tiny_model: Path, tunery: Tunery
) -> None:
    path = recipe(tmp_path, tiny_model, server)
    server.faults = [500, 500]
    first = tunery("run", path, "--json")
    assert first.code == 5, first.err
    assert "gpt (66.7 %)" in first.json["gate"]["rules"][0]["sentence"]
    assert len(server.bodies) == 4

    again = tunery("evaluate", "resume", path, "--json")
    assert again.code == 0, again.err
    ((arm),) = again.json
    assert (arm["name"], arm["before"], arm["left"]) == ("gpt", 2, 0)
    assert len(server.bodies) == 6  # what it had answered was not paid for again
    assert "Every row has its answer" in tunery("evaluate", "resume", path).out

    judged = tunery("run", path, "--json")
    assert judged.code == 5
    assert judged.json["run"] == first.json["run"]
    assert "gpt (100.0 %)" in judged.json["gate"]["rules"][0]["sentence"]
    assert len(server.bodies) == 6
    assert tunery("evaluate", "verify", judged.json["run"]).code == 0
    report = tunery("evaluate", "report", judged.json["run"]).out
    assert "Gpt" in report
    assert "1,000 requests" in report


def test_answers_that_a_registered_version_was_judged_by_stay(
    server: Teacher, tmp_path: Path, tiny_model: Path, tunery: Tunery
) -> None:
    path = recipe(tmp_path, tiny_model, server, "exact_match >= 0")
    server.faults = [500]
    done = tunery("run", path, "--json")
    assert done.code == 0, done.err
    kept = tunery("evaluate", "resume", path)
    assert kept.code == 4
    assert "arms@1 was judged by these answers of gpt" in kept.err
    assert tunery("evaluate", "verify", done.json["run"]).code == 0


def test_slices_stand_in_the_command_line_and_on_the_page(
    server: Teacher, tmp_path: Path, tiny_model: Path, tunery: Tunery
) -> None:
    path = recipe(tmp_path, tiny_model, server, "exact_match >= 0")
    done = tunery("run", path, "data.split.test=12", "--json").json
    report = tunery("evaluate", "report", done["run"], "--format", "json").json
    evaluation = report["run"]["evaluations"]["tuned"]
    slices = tunery("evaluate", "show", evaluation, "--json").json["slices"]
    assert {part["value"] for part in slices} == {"block", "renew"}
    text = tunery("evaluate", "show", evaluation).out
    assert "slices, against zero_shot" in text
    assert "label: block" in text
    page = tunery("evaluate", "report", done["run"]).out
    assert "On parts of the rows" in page
    assert "label: renew" in page
