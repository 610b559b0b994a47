"""OpenAI's graders as written there: fields, templates, scores, what cannot be graded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.core.errors import ConfigError
from tunery.core.evaluation import Evaluation
from tunery.core.example import Example, Message
from tunery.core.judging import NO_MODELS, NoAnswer, ScorerModels
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult, evaluate
from tunery.evaluate.task import Task, make_task
from tunery.graders.config import read_graders
from tunery.graders.formula import calculate, names_in
from tunery.graders.similarity import similarity
from tunery.graders.template import NoValue, fill, item_of, sample_of

EXACT = {
    "type": "string_check",
    "name": "Match output",
    "input": "{{ sample.output_text }}",
    "reference": "{{item.reference}}",
    "operation": "eq",
}
ROWS = [example(f"q{i}", answer) for i, answer in enumerate(["cat", "dog", "cow", "hen"])]
ANSWERS = {"q0": "cat", "q1": "Dog", "q2": "a cow", "q3": "fox"}


def task_of(graders: Any, *, metric: str = "grader", models: ScorerModels = NO_MODELS) -> Task:
    config = EvaluateConfig(graders=graders, metrics=("exact_match",))
    return make_task(ROWS, data="d", config=config, main_metric=metric, models=models)


def run(task: Task, answers: Mapping[str, str] = ANSWERS) -> EvaluationResult:
    return evaluate(ScriptedEngine(answers), CharTokenizer(), task, subject=Subject("tuned", "b@0", None))


def value(found: Evaluation, name: str) -> float:
    return found.metrics[name].value


@pytest.mark.parametrize(("operation", "share"), [("eq", 0.25), ("ne", 0.75), ("like", 0.5), ("ilike", 0.75)])
def test_string_checks_count_what_their_operation_says(operation: str, share: float) -> None:
    result = run(task_of([{**EXACT, "operation": operation}]))
    assert value(result.evaluation, "grader.match_output") == share
    assert value(result.evaluation, "grader") == share
    assert sum(p.correct for p in result.predictions) == share * 4


def test_an_answer_is_right_when_it_passes_every_grader_or_the_one_that_the_goal_names() -> None:
    graders = [EXACT, {**EXACT, "name": "loose", "operation": "ilike"}]
    everything, loose = run(task_of(graders)), run(task_of(graders, metric="grader.loose"))
    assert value(everything.evaluation, "grader") == 0.25
    assert [p.correct for p in everything.predictions] == [True, False, False, False]
    assert [p.correct for p in loose.predictions] == [True, True, True, False]
    assert loose.evaluation.main.value == 0.75


def test_graders_may_be_named_by_key_listed_or_given_as_an_evals_object(tmp_path: Path) -> None:
    named = EvaluateConfig(graders={"match": {k: v for k, v in EXACT.items() if k != "name"}})
    listed = EvaluateConfig(graders=[{**EXACT, "name": "match"}])
    assert named.graders == listed.graders
    file = tmp_path / "eval.json"
    file.write_text(json.dumps({"object": "eval", "testing_criteria": [{**EXACT, "pass_threshold": None}]}))
    assert EvaluateConfig(graders=read_graders(file)).graders[0].name == "Match output"
    file.write_text("{}")
    with pytest.raises(ConfigError, match="no graders"):
        read_graders(file)


def test_an_evaluation_without_graders_is_configured_as_before() -> None:
    assert "graders" not in EvaluateConfig().model_dump()


@pytest.mark.parametrize(
    ("grader", "problem"),
    [
        ({**EXACT, "operation": "near"}, "operation"),
        ({**EXACT, "name": " "}, "cannot name"),
        ({**EXACT, "name": "error"}, "cannot name"),
        ({"type": "python", "name": "p", "source": "def grade(:"}, "no Python"),
        ({"type": "python", "name": "p", "source": "x = 1"}, "no function grade"),
        ({"type": "endpoint", "name": "p"}, "string_check"),
    ],
)
def test_wrong_graders_are_refused(grader: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        EvaluateConfig(graders=[grader])


def test_templates_are_filled_once_from_row_and_answer() -> None:
    row = example("what?", '{"total": {"sum": 3}}').with_(metadata={"tags": ["a", "b"], "row": 1})
    item, sample = item_of(row), sample_of('{"x": [1, "{{ item.id }}"]}')
    template = "{{item.prompt}}|{{ item.tags[1] }}|{{item.reference.total.sum}}|{{ sample.output_json.x[1] }}"
    assert fill(template, sample, item) == "what?|b|3|{{ item.id }}"
    with pytest.raises(NoValue, match=r"item\.nothing"):
        fill("{{ item.nothing }}", sample, item)


def test_a_template_that_no_row_can_fill_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ConfigError, match=r"no row has item\.colour"):
        task_of([{**EXACT, "reference": "{{ item.colour }}"}])


def test_an_answer_that_cannot_be_graded_is_counted_and_reported() -> None:
    grader = {**EXACT, "input": "{{ sample.output_json.word }}"}
    found = run(task_of([grader]), {**ANSWERS, "q0": '{"word": "cat"}'}).evaluation
    assert value(found, "grader.match_output") == 0.25
    assert value(found, "grader.error") == 0.75
    assert any("failed on 3 of 4 answers" in warning for warning in found.warnings)


def test_similarities_equal_those_of_their_libraries() -> None:
    import rapidfuzz
    import sacrebleu
    from nltk.translate.gleu_score import sentence_gleu
    from rouge_score.rouge_scorer import RougeScorer

    text, reference = "the cat sat on the mat", "a cat sat on the red mat today"
    expected = {
        "fuzzy_match": rapidfuzz.fuzz.ratio(text, reference) / 100,
        "bleu": sacrebleu.sentence_bleu(text, [reference]).score / 100,
        "gleu": sentence_gleu([reference.split()], text.split()),
    }
    names = {f"rouge_{n}": f"rouge{n}" for n in range(1, 6)} | {"rouge_l": "rougeL"}
    rouge = RougeScorer([*names.values()], use_stemmer=True).score(reference, text)
    expected |= {ours: rouge[theirs].fmeasure for ours, theirs in names.items()}
    for name, wanted in expected.items():
        assert similarity(name, text, reference, None) == pytest.approx(wanted, abs=1e-12), name
        assert similarity(name, "", reference, None) == 0
    assert similarity("meteor", text, text, None) > 0.99 > similarity("meteor", text, reference, None) > 0.5


def test_formulas_compute_and_hold_nothing_but_arithmetic() -> None:
    assert calculate("0.5 * a + b ^ 2", {"a": 1.0, "b": 3.0}) == 9.5
    assert calculate("min(a, b, 1) + floor(2.7) + sqrt(abs(-4)) + log(exp(1))", {"a": 0.5, "b": 2.0}) == 5.5
    assert names_in("max(a, b) / 2") == {"a", "b"}
    for bad in (
        "a.__class__",
        "open('x')",
        "[a]",
        "a if a else b",
        "lambda: 1",
        "'x' * 9",
        "a(1)",
        "((",
        "min()",
    ):
        with pytest.raises(ValueError, match="calculate_output"):
            names_in(bad)
    for bad in ("1 / 0", "9 ^ 9 ^ 9 ^ 9", "sqrt(0 - 1)", "(0 - 1) ^ 0.5", "log(0)", "sqrt(1, 2)"):
        with pytest.raises(ValueError):  # noqa: PT011 - the words are Python's
            calculate(bad, {})


def test_multi_and_python_graders_score_together() -> None:
    source = "def grade(sample, item):\n    return len(sample['output_text']) / 10"
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {
            "same": {**EXACT, "name": "same"},
            "long": {"type": "python", "name": "long", "source": source},
        },
        "calculate_output": "0.5 * same + 0.5 * long",
        "pass_threshold": 0.6,
    }
    result = run(task_of([multi]))
    assert [p.scores["grader.both"] for p in result.predictions] == pytest.approx([0.65, 0.15, 0.25, 0.15])
    assert [p.correct for p in result.predictions] == [True, False, False, False]


class Judge:
    """Answers by what the last turn holds."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers, self.asked = answers, list[Sequence[Message]]()

    def __call__(self, conversation: Sequence[Message]) -> str:
        self.asked.append(conversation)
        for key, text in self.answers.items():
            if f"[{key}]" in conversation[-1].content:
                return text
        raise NoAnswer("timed out")


def test_grading_models_score_and_garbage_is_an_error_never_a_score() -> None:
    judge = Judge({"cat": '{"result": 4}', "Dog": "I like dogs", "a cow": '{"result": 9}'})
    given: list[tuple[str, Mapping[str, Any]]] = []

    def named(model: str, changes: Mapping[str, Any]) -> Judge:
        given.append((model, changes))
        return judge

    grader = {
        "type": "score_model",
        "name": "tone",
        "model": "gpt-x",
        "range": [1, 5],
        "sampling_params": {"temperature": 0},
        "input": [
            {"role": "developer", "content": "Grade."},
            {"role": "user", "content": "[{{sample.output_text}}]"},
        ],
    }
    found = run(task_of([grader], models=ScorerModels(named=named))).evaluation
    assert given == [("gpt-x", {"temperature": 0})]
    assert value(found, "grader.tone") == pytest.approx(0.75 / 4)
    assert value(found, "grader.error") == 0.75
    assert "timed out" in " ".join(found.warnings)
    assert judge.asked[0][0].role == "system"


def test_grading_models_label() -> None:
    judge = Judge({"cat": '{"result": "good"}', "Dog": "bad", "a cow": "good", "fox": "fine"})
    grader = {
        "type": "label_model",
        "name": "label",
        "model": "m",
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
        "input": [{"role": "user", "content": {"type": "input_text", "text": "[{{sample.output_text}}]"}}],
    }
    found = run(task_of([grader], models=ScorerModels(named=lambda model, changes: judge))).evaluation
    assert value(found, "grader.label") == 0.5
    assert value(found, "grader.error") == 0.25
    with pytest.raises(ConfigError, match=r"evaluate\.judge\.base_url"):
        task_of([grader])


def test_every_field_that_openai_writes_is_taken() -> None:
    from openai.types import graders as theirs

    from tunery.graders import config as ours

    for name, model in (
        ("StringCheckGrader", ours.StringCheck),
        ("TextSimilarityGrader", ours.TextSimilarity),
        ("PythonGrader", ours.PythonCode),
        ("ScoreModelGrader", ours.ScoreModel),
        ("LabelModelGrader", ours.LabelModel),
        ("MultiGrader", ours.Multi),
    ):
        assert {*getattr(theirs, name).model_fields} <= {*model.model_fields}, name


def test_rows_keep_their_own_columns() -> None:
    row: Example = ROWS[0].with_(metadata={"reference": "mine"})
    assert item_of(row)["reference"] == "mine"
