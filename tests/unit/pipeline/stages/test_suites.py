"""Suites that a run measures by itself: what they take is said, and what their rows decide."""

from pathlib import Path
from typing import Any

import pytest

from tunery.core.progress import Silent
from tunery.gate.power import POWER, rows_to_rule_out
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.evaluate import measure
from tunery.pipeline.stages.gate import rows_judged, rules_of, undecidable_rules
from tunery.pipeline.stages.settle import settle
from tunery.pipeline.stages.suites import base_on_suite, planned_suites, suite_tasks
from tunery.store.workspace import Workspace


@pytest.fixture
def opened(tmp_path: Path, tiny_model: Path, workspace: Workspace):  # type: ignore[no-untyped-def]
    rows = [f"question number {i},answer {i % 3}" for i in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,answer", *rows]) + "\n", encoding="utf-8")
    contexts = []

    def open_(name: str, **evaluate: Any) -> RunContext:
        recipe = {
            "name": name,
            "goal": {"metric": "exact_match"},
            "base": str(tiny_model),
            "data": {
                "sources": [{"path": "rows.csv", "columns": {"input": "text", "output": "answer"}}],
                "split": {"test": 4, "validation": 0},
                "clean": {"near_duplicates": "off"},
            },
            "train": {"device": "cpu", "threads": 1},
            "evaluate": evaluate,
        }
        contexts.append(RunContext(parse_recipe(recipe, where="test"), workspace, tmp_path, Silent()))
        return contexts[-1]

    yield open_
    for context in contexts:
        context.release_engine()


def test_every_rule_of_the_suites_measured_by_default_can_be_decided_by_its_rows(opened) -> None:  # type: ignore[no-untyped-def]
    context = opened("usual")
    tasks = suite_tasks(context)
    rules = [rule for rule in rules_of(context) if rule.suite]
    assert len(rules) == 4
    for rule in rules:
        # As many items of general ability turn as were measured; of the others a tenth.
        differ = 0.26 if rule.suite == "general" else 0.1
        assert rows_judged(tasks[str(rule.suite)], rule.metric) >= rows_to_rule_out(
            rule.within, discordant=differ
        )
    assert not [s for s in undecidable_rules(context, tasks["general"], tasks) if "no worse" in s]


def test_a_margin_that_even_all_items_of_general_cannot_decide_is_named(opened) -> None:  # type: ignore[no-untyped-def]
    context = opened("strict", suites={"general": {"builtin": "general", "within": 0.05}})
    tasks = suite_tasks(context)
    (found,) = [s for s in undecidable_rules(context, tasks["general"], tasks) if "general" in s]
    assert "400 rows of general can hardly show it (with 25.0 % of them judged differently" in found


def test_a_suite_too_small_for_its_margin_is_named_by_the_rows_of_its_metric(opened) -> None:  # type: ignore[no-untyped-def]
    context = opened("few", suites={"safety": {"builtin": "safety", "limit": 200}})
    tasks = suite_tasks(context)
    # 200 rows in all, of which hidden instructions are a quarter.
    (found,) = [s for s in undecidable_rules(context, tasks["safety"], tasks) if "injection" in s]
    assert f"{rows_judged(tasks['safety'], 'injection')} rows of safety can hardly show it" in found
    assert f"at power {POWER:g}" in found


def test_the_base_answers_a_suite_once_for_all_recipes_of_a_home(opened) -> None:  # type: ignore[no-untyped-def]
    suites = {"mine": {"builtin": "general", "limit": 4}}
    first, second = opened("one", suites=suites), opened("two", suites=suites, max_new_tokens=9)
    dataset = make_dataset(first)
    (planned,) = planned_suites(first, dataset, suite_tasks(first))
    assert planned.models == 2
    assert planned.answer_tokens == 0  # choices are scored, and nothing is written
    made = measure(first, suite_tasks(first)["mine"], base_on_suite(first, "mine", None))
    again = make_dataset(second)
    (planned,) = planned_suites(second, again, suite_tasks(second))
    assert planned.models == 1
    found = measure(second, suite_tasks(second)["mine"], base_on_suite(second, "mine", None))
    assert found.evaluation == made.evaluation


def test_what_a_suite_has_computed_is_its_rows_with_their_shared_beginnings_once(opened) -> None:  # type: ignore[no-untyped-def]
    context = opened("counted", suites={"mine": {"builtin": "general", "limit": 3}})
    task = suite_tasks(context)["mine"]
    (planned,) = planned_suites(context, make_dataset(context), {"mine": task})
    prompts = sum(len(context.tokenizer.render_prompt(e.prompt)) for e in task.examples)
    choices = sum(len(context.tokenizer.encode(str(c))) for e in task.examples for c in e.metadata["choices"])
    assert planned.prompt_tokens <= prompts + choices
    assert planned.prompt_tokens > choices


def test_begun_answers_take_the_tuned_model_alone(
    tmp_path: Path, tiny_model: Path, workspace: Workspace
) -> None:
    words = [f"word{n}" for n in range(26)]
    rows = [f"tell me of item {i}\t{' '.join([f'first{i}', *words])}" for i in range(48)]
    (tmp_path / "rows.tsv").write_text("\n".join(["text\tanswer", *rows]) + "\n", encoding="utf-8")
    recipe = {
        "name": "begun",
        "goal": {"metric": "exact_match"},
        "base": str(tiny_model),
        "data": {
            "sources": [{"path": "rows.tsv", "columns": {"input": "text", "output": "answer"}}],
            "labels": "open",
            "split": {"test": 24, "validation": 0},
            "clean": {"near_duplicates": "off"},
        },
        "evaluate": {"suites_off": "not tested", "memorised": 20},
        "train": {"device": "cpu", "threads": 1},
    }
    context = RunContext(parse_recipe(recipe, where="test"), workspace, tmp_path, Silent())
    dataset = make_dataset(context)
    found = settle(context, dataset).begun
    assert {name: len(task.examples) for name, task in found.items()} == {
        "begun train answers": 20,
        "begun test answers": 20,
    }
    for planned in planned_suites(context, dataset, found):
        assert planned.models == 1
        assert planned.answer_tokens == 20 * 36
    (example, *_) = found["begun train answers"].examples
    assert str(example.metadata["begun"]).startswith("first")
    # The two halves are the answer, and its tokens go on from the ones that were begun.
    assert f"{example.metadata['begun']}{example.reference}".split()[1:] == words
