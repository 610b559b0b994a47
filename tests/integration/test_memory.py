"""A model that learnt by heart is seen: planted canaries, and answers that it goes on with word for word."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tunery.core.canaries import canaries
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.core.run import Run
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.train import training_splits
from tunery.store.workspace import Workspace

WORDS = (
    "card",
    "rate",
    "bank",
    "file",
    "help",
    "free",
    "zone",
    "gold",
    "leaf",
    "moon",
    "rain",
    "snow",
    "tree",
)


def rows(count: int, words: int) -> list[dict[str, str]]:
    draw = random.Random(count)
    return [
        {"text": f"tell me of item {number}", "answer": " ".join(draw.choice(WORDS) for _ in range(words))}
        for number in range(count)
    ]


def context(
    folder: Path, base: Path, workspace: Workspace, given: list[dict[str, str]], **sections: Any
) -> RunContext:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    recipe = {
        "name": "memory",
        "goal": {"metric": "exact_match"},
        "base": str(base),
        "data": {
            "sources": [{"path": "rows.jsonl", "columns": {"input": "text", "output": "answer"}}],
            "system_prompt": "Answer.",
            "split": {"test": 4, "validation": 0},
            "labels": "open",
            "clean": {"near_duplicates": "off"},
            **sections.pop("data", {}),
        },
        "evaluate": {
            "suites_off": "not tested here",
            "max_new_tokens": 4,
            "baseline": {"few_shot": False, "constrained": False, "perplexity": False},
            **sections.pop("evaluate", {}),
        },
        "gate": {"rules": sections.pop("rules", [{"metric": "exact_match", "at_least": 0.0}])},
        "train": {"device": "cpu", "threads": 1, "smoke": False, "keep": "last", **sections.pop("train", {})},
    }
    return RunContext(parse_recipe(recipe, where="test"), workspace, folder, Silent())


def sentences(workspace: Workspace, run: Run, of: str) -> list[tuple[bool, str]]:
    gate = workspace.gates.get(run.gate_id or "")
    return [(rule.passed, rule.sentence) for rule in gate.rules if rule.rule.get("on") == of]


PLANTED = {"count": 5, "repeats": 4, "references": 60}


@pytest.mark.parametrize(("epochs", "rate", "holds"), [(30, 0.02, False), (1, 1e-6, True)])
def test_a_model_that_learnt_canaries_by_heart_is_refused(
    tmp_path: Path, tiny_model: Path, workspace: Workspace, epochs: int, rate: float, holds: bool
) -> None:
    settings = {"epochs": epochs, "learning_rate": rate, "batch_size": 16, "rank": 16, "canaries": PLANTED}
    opened = context(tmp_path, tiny_model, workspace, rows(12, 2), train=settings)
    run = run_recipe(opened)
    ((passed, sentence),) = sentences(workspace, run, "canaries")
    assert passed == holds, sentence
    assert run.status == ("succeeded" if holds else "refused")
    assert "exposure in bits on canaries is" in sentence
    assert "a loss of more than 3 must be ruled out" in sentence
    adapter = workspace.adapters.get(run.adapter_id or "")
    assert adapter.config["canaries"]["repeats"] == 4  # on record, with the seed that they follow from


def test_canaries_are_in_the_train_split_alone_and_as_often_as_set(
    tmp_path: Path, tiny_model: Path, workspace: Workspace
) -> None:
    from tunery.pipeline.stages.data import make_dataset, split_of

    opened = context(tmp_path, tiny_model, workspace, rows(12, 2), train={"canaries": PLANTED})
    dataset = make_dataset(opened)
    splits = training_splits(opened, dataset)
    secrets = [canary.secret for canary in canaries(5, 0)]
    assert len(set(secrets)) == 5
    trained = [e.reference for e in splits.train]
    assert all(trained.count(secret) == 4 for secret in secrets)
    assert not {e.reference for e in splits.validation} & {*secrets}
    for split in ("train", "validation", "test"):  # the version itself holds none
        assert not {e.reference for e in split_of(opened, dataset, split)} & {*secrets}  # type: ignore[arg-type]
    assert splits.train[-1].messages[0].content == "Answer."  # asked as the rows are


def test_methods_that_learn_from_pairs_plant_none() -> None:
    with pytest.raises(ConfigError, match="canaries"):
        parse_recipe(
            {
                "name": "a",
                "goal": {},
                "base": "b",
                "data": {"sources": [{"path": "r.csv"}]},
                "train": {"method": "dpo", "canaries": {}},
            },
            where="x",
        )


@pytest.mark.slow
def test_answers_of_train_rows_that_are_gone_on_with_word_for_word_are_refused(
    tmp_path: Path, tiny_model: Path, workspace: Workspace
) -> None:
    opened = context(
        tmp_path,
        tiny_model,
        workspace,
        rows(44, 26),
        data={"split": {"test": 22, "validation": 0}},
        evaluate={"memorised": 20},
        rules=[{"metric": "exact_match", "at_least": 0.0}, "memorised.verbatim no worse within 0.2"],
        train={"epochs": 150, "learning_rate": 0.01, "batch_size": 11, "rank": 32, "early_stopping": None},
    )
    run = run_recipe(opened)
    ((passed, sentence),) = sentences(workspace, run, "memorised")
    assert not passed
    assert "above rows that it never saw" in sentence
    assert run.status == "refused"


def test_short_answers_are_no_memory_and_a_rule_about_them_is_refused_before_training(
    tmp_path: Path, tiny_model: Path, workspace: Workspace
) -> None:
    opened = context(
        tmp_path, tiny_model, workspace, rows(12, 2), rules=["memorised.verbatim no worse within 0.2"]
    )
    with pytest.raises(ConfigError, match="suite 'memorised' is not measured"):
        run_recipe(opened)


@pytest.mark.parametrize("name", ["canaries", "memorised", "human"])
def test_what_is_measured_besides_keeps_its_name(name: str) -> None:
    values = {
        "name": "a",
        "goal": {},
        "base": "b",
        "data": {"sources": [{"path": "r.csv"}]},
        "evaluate": {"suites": {name: {"builtin": "bias"}}},
    }
    with pytest.raises(ConfigError, match="taken by what is measured besides"):
        parse_recipe(values, where="x")
