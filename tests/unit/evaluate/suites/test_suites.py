"""Built-in suites: their rows are fixed, and a broken model is seen on them."""

import base64
import pkgutil
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine
from tunery.core.engine import Generation, GenerationRequest, Score
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import Example
from tunery.evaluate import suites
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult, evaluate
from tunery.evaluate.suites import builtin_suite, shipped_rows, suite_declaration, suite_names
from tunery.evaluate.task import Task, make_task

REFUSAL = "I'm sorry, but I can't help with that."


def task_of(name: str, limit: int | None = None) -> Task:
    suite = builtin_suite(name)
    metrics = tuple(suite.declaration.margins)
    config = EvaluateConfig(metrics=metrics, max_new_tokens=200, limit=limit)
    return make_task(suite.examples, data=name, config=config, main_metric=metrics[0])


class Parrot(ScriptedEngine):
    """Answers everything with one text, or with what it was asked."""

    def __init__(self, answer: str | None) -> None:
        super().__init__({})
        self.answer = answer

    def _answer(self, request: GenerationRequest) -> Generation:
        asked = CharTokenizer().decode(request.prompt).rpartition("<user>")[2].rpartition("\n<assistant>")[0]
        answer = asked if self.answer is None else self.answer
        self.tables[None] = {asked.partition("\n")[0]: answer}
        return super()._answer(request)


def measured(engine: ScriptedEngine, task: Task, name: str = "it") -> EvaluationResult:
    return evaluate(engine, CharTokenizer(), task, subject=Subject(name, "b"))


def test_every_file_in_the_folder_is_a_suite_whose_rows_have_ids_of_their_own() -> None:
    assert set(suite_names()) == {module.name for module in pkgutil.iter_modules(suites.__path__)} != set()
    for name in suite_names():
        suite = builtin_suite(name)
        assert len({e.id for e in suite.examples}) == len(suite.examples)
        assert all(e.label == e.metadata["kind"] for e in suite.examples)
        assert all(0 < margin < 1 for margin in suite.declaration.margins.values())
        assert builtin_suite(name).sha256 == suite.sha256


def test_an_unknown_suite_is_refused_with_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="general"):
        suite_declaration("genral")


def test_every_item_of_general_offers_its_reference_once() -> None:
    examples = builtin_suite("general").examples
    assert Counter(e.label for e in examples) == {"hellaswag": 200, "mmlu": 200}
    assert all(Counter(e.metadata["choices"])[e.reference] == 1 for e in examples)
    assert len({e.id.split("-")[1] for e in examples if e.label == "mmlu"}) == 57


def test_items_of_general_are_those_that_the_benchmarks_ship() -> None:
    for name in ("hellaswag", "mmlu"):
        shipped = {row["id"].replace("/", "-"): row for row in shipped_rows(name) if row["split"] == "test"}
        items = [e for e in builtin_suite("general").examples if e.label == name]
        assert {e.id.removeprefix(f"{name}-") for e in items} <= shipped.keys()
        for item in items:
            row = shipped[item.id.removeprefix(f"{name}-")]
            text = row["query"] if name == "hellaswag" else row["question"].strip()
            assert text in item.messages[0].content


class Oracle(ScriptedEngine):
    """Finds the texts in a list likeliest, be they long or short."""

    def __init__(self, likely: Sequence[str]) -> None:
        super().__init__({})
        self.likely = frozenset(CharTokenizer().encode(text) for text in likely)

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        self.scored += rows
        return [Score(-len(c) * (0.1 if tuple(c) in self.likely else 0.2), len(c)) for _, c in rows]


def test_the_likeliest_choice_for_its_length_is_the_answer() -> None:
    task = task_of("general")
    endings = [e for e in task.examples if e.label == "hellaswag"]
    engine = Oracle([e.reference for e in endings])
    found = measured(engine, task)
    assert found.evaluation.metrics["multiple_choice.hellaswag"].value == 1
    assert not engine.requests  # nothing is written, and nothing but the choices is scored
    assert len(engine.scored) == sum(len(e.metadata["choices"]) for e in task.examples)
    # Of equals the first counts: a model that finds all letters alike is right where A is.
    letters = [e.reference == "A" for e in task.examples if e.label == "mmlu"]
    assert found.evaluation.metrics["multiple_choice.mmlu"].value == pytest.approx(
        sum(letters) / len(letters)
    )


class Broken(ScriptedEngine):
    """Has weights that are no numbers."""

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        return [Score(float("nan"), len(completion)) for _, completion in rows]


def test_likelihoods_that_are_no_numbers_are_no_answer() -> None:
    assert measured(Broken({}), task_of("general")).evaluation.main.value == 0


def test_a_model_that_answers_everything_is_seen_beside_one_that_refuses_what_is_harmful() -> None:
    task = task_of("safety")
    answering = measured(Parrot("Sure, this is how it is done: take the red one."), task)
    metrics = answering.evaluation.metrics
    assert (metrics["refusal"].value, metrics["over_refusal"].value) == (0, 0)
    refusing = measured(Parrot(REFUSAL), task, "base")
    compared = compare(refusing.predictions, answering.predictions, metric="refusal")
    assert compared.verdict == "worse"
    assert compared.difference == -1


def test_a_model_that_refuses_everything_is_seen_on_safe_prompts() -> None:
    metrics = measured(Parrot(REFUSAL), task_of("safety")).evaluation.metrics
    assert (metrics["refusal"].value, metrics["over_refusal"].value) == (1, 1)
    assert (metrics["refusal"].n, metrics["over_refusal"].n, metrics["injection"].n) == (150, 100, 90)
    assert metrics["refusal.jailbreak"].n == 50


def test_a_model_that_says_nothing_is_wrong_on_either_side() -> None:
    metrics = measured(Parrot(""), task_of("safety")).evaluation.metrics
    assert (metrics["refusal"].value, metrics["over_refusal"].value, metrics["injection"].value) == (0, 1, 0)


def test_a_model_that_says_all_it_was_asked_obeys_every_hidden_instruction() -> None:
    task = task_of("safety")
    rows = [e.with_(metadata=e.metadata) for e in task.examples if e.label == "injection"]
    assert all(str(e.metadata["marker"]) in e.messages[0].content for e in rows)
    engine = Parrot(None)
    config = EvaluateConfig(metrics=("injection",), max_new_tokens=1000)
    alone = make_task(rows, data="injection", config=config, main_metric="injection")
    assert measured(engine, alone).evaluation.main.value == 1


def test_a_jailbreak_hangs_together_with_the_prompt_that_it_dresses() -> None:
    examples = {e.id: e for e in builtin_suite("safety").examples}
    dressed = [e for e in examples.values() if e.label == "jailbreak"]
    assert Counter(e.metadata["jailbreak"] for e in dressed) == dict.fromkeys(
        ("role", "prefix", "base64", "translation", "research"), 10
    )
    for example in dressed:
        inner = examples[example.group].messages[0].content
        if example.metadata["jailbreak"] == "base64":
            inner = base64.b64encode(inner.encode()).decode()
        assert inner in example.messages[0].content


def test_a_draw_of_few_rows_keeps_every_metric() -> None:
    task = task_of("safety", limit=40)
    assert len(task.examples) == 40
    assert set(measured(Parrot("Sure."), task).evaluation.metrics) >= {"refusal", "over_refusal", "injection"}


def test_a_metric_that_is_about_none_of_the_rows_is_refused() -> None:
    safe: list[Example] = [e for e in builtin_suite("safety").examples if e.label == "xstest"]
    config = EvaluateConfig(metrics=("refusal",))
    with pytest.raises(ConfigError, match="refusal judges none of these rows"):
        make_task(safe, data="xstest", config=config, main_metric="refusal")


def test_bias_is_choosing_the_person_that_the_stereotype_names() -> None:
    task = task_of("bias")
    assert all(e.metadata["stereotype"] in e.metadata["choices"] for e in task.examples)
    stereotyped = [str(e.metadata["stereotype"]) for e in task.examples if e.label == "gender"]
    assert Counter(stereotyped).most_common()[0][1] == 2  # each person is named in either order
    undecided = measured(Oracle(["It cannot be told."]), task).evaluation.metrics
    assert (undecided["stereotype"].value, undecided["multiple_choice"].value) == (0, 1)
    # One that always names whoever comes first follows the stereotype in half of the rows.
    first = measured(ScriptedEngine({}), task).evaluation.metrics
    assert (first["stereotype"].value, first["multiple_choice"].value) == (0.5, 0)


def test_the_corrected_rate_of_refusals_stands_beside_what_the_rules_say() -> None:
    metrics = measured(Parrot(REFUSAL), task_of("safety")).evaluation.metrics
    assert metrics["refusal.corrected"].value == 1
    assert metrics["refusal.corrected"].ci95[0] < metrics["refusal"].ci95[0]
    assert measured(Parrot(""), task_of("safety")).evaluation.metrics["over_refusal.corrected"].value == 1
