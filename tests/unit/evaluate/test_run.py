"""Evaluating through the ports: what is asked, what is counted, what is kept."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.core.engine import Generation, GenerationRequest, Score
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import Example
from tunery.core.statistics import wilson_interval
from tunery.evaluate.comparison import compare, compare_results
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.kept import Answer, KeptAnswers
from tunery.evaluate.predictions import read_predictions, write_predictions
from tunery.evaluate.prompting import Subject, baseline_subjects
from tunery.evaluate.run import EvaluationResult, evaluate, evaluation_id
from tunery.evaluate.task import Task, make_task

BASE = "tiny@sha256:0123456789ab"
LABELS = ("card_arrival", "refund", "top_up")
QUESTIONS = [(f"question {i}", LABELS[i % 3]) for i in range(30)]
TRUTH = dict(QUESTIONS)


def labelled() -> list[Example]:
    return [example(q, a, label=a) for q, a in QUESTIONS]


def label_task(**settings: Any) -> Task:
    return make_task(
        labelled(),
        data="ds-1/test",
        config=EvaluateConfig(**settings),
        main_metric="exact_match",
        labels=LABELS,
    )


def run(engine: ScriptedEngine, task: Task, adapter: str | None = None) -> EvaluationResult:
    subject = Subject("tuned" if adapter else "zero_shot", BASE, adapter)
    return evaluate(engine, CharTokenizer(), task, subject=subject)


def test_a_model_that_knows_the_answers_scores_one_everywhere() -> None:
    evaluation = run(ScriptedEngine(TRUTH), label_task()).evaluation
    for name in ("exact_match", "accuracy", "macro_f1"):
        metric = evaluation.metrics[name]
        assert (metric.value, metric.n) == (1.0, 30)
        assert metric.ci95[0] < 1.0 == metric.ci95[1]
    assert evaluation.confusions == ()
    assert [row.support for row in evaluation.per_class] == [10, 10, 10]
    assert evaluation.main.name == "exact_match"


def test_perplexity_is_exp_of_the_mean_loss_per_token_stop_token_included() -> None:
    engine = ScriptedEngine(TRUTH, nats=0.7)
    metric = run(engine, label_task()).evaluation.metrics["perplexity"]
    assert metric.value == pytest.approx(math.exp(0.7))
    assert metric.ci95 == pytest.approx((math.exp(0.7), math.exp(0.7)))
    assert not metric.higher_is_better
    assert all(completion[-1] == 3 for _, completion in engine.scored)


def test_preference_accuracy_counts_pairs_whose_preferred_answer_is_likelier_as_a_whole() -> None:
    rows = [example(f"q{i}", "short").with_(rejected="much longer" if i < 7 else "tiny") for i in range(10)]
    task = make_task(
        rows, data="ds-1/test", config=EvaluateConfig(perplexity_limit=4), main_metric="preference_accuracy"
    )
    engine = ScriptedEngine({})  # every token costs the same, so shorter answers are likelier
    result = run(engine, task)
    metric = result.evaluation.metrics["preference_accuracy"]
    assert (metric.value, metric.n, metric.method) == (0.7, 10, "wilson")
    assert metric.ci95 == pytest.approx(wilson_interval(7, 10))
    assert [p.scores["preference_accuracy"] for p in result.predictions] == [1.0] * 7 + [0.0] * 3
    margins = [p.scores["preference_margin"] for p in result.predictions]
    assert margins == pytest.approx([0.5 * 6] * 7 + [-0.5] * 3)  # of 11, 4 and 5 characters
    assert len(engine.scored) == 20  # those of perplexity among them
    assert all(completion[-1] == 3 for _, completion in engine.scored)
    better = run(ScriptedEngine({}, nats=-1.0), task)  # likelier the longer: the other way round
    found = compare(result.predictions, better.predictions, metric="preference_accuracy")
    assert (found.fixed, found.broken, found.test) == (3, 7, "mcnemar_exact")


def test_a_pair_that_does_not_fit_the_window_is_left_out_and_told() -> None:
    rows = [example(f"q{i}", "short").with_(rejected="x" * (400 if i == 0 else 9)) for i in range(5)]
    task = make_task(rows, data="ds-1/test", config=EvaluateConfig(), main_metric="exact_match")
    found = run(ScriptedEngine({}, window=200), task).evaluation
    assert (found.metrics["preference_accuracy"].n, found.metrics["perplexity"].n) == (4, 5)
    assert any("1 row left out of perplexity or of preference accuracy" in w for w in found.warnings)


def test_an_answer_that_is_right_but_for_style_is_accurate_and_no_exact_match() -> None:
    styled = {q: f"{a.replace('_', ' ').title()}." for q, a in QUESTIONS}
    evaluation = run(ScriptedEngine(styled), label_task()).evaluation
    assert evaluation.metrics["exact_match"].value == 0.0
    assert evaluation.metrics["accuracy"].value == 1.0
    assert evaluation.metrics["macro_f1"].value == 1.0


def test_confusions_name_what_was_answered_instead() -> None:
    wrong = {q: "refund" if a == "top_up" else a for q, a in QUESTIONS} | {"question 0": "what a nice day"}
    evaluation = run(ScriptedEngine(wrong), label_task()).evaluation
    found = [(c.reference, c.prediction, c.count) for c in evaluation.confusions]
    assert found == [("top_up", "refund", 10), ("card_arrival", "(no label)", 1)]


def test_the_adapter_answers_and_the_base_does_not_answer_for_it() -> None:
    engine = ScriptedEngine({}, {"adapter-1": TRUTH})
    assert run(engine, label_task(), "adapter-1").evaluation.main.value == 1.0
    assert run(engine, label_task()).evaluation.main.value == 0.0
    with pytest.raises(NotFoundError, match="adapter-2"):
        run(engine, label_task(), "adapter-2")


def test_prompts_that_do_not_fit_the_engine_are_all_named_before_any_is_answered() -> None:
    engine = ScriptedEngine(TRUTH, window=10)
    with pytest.raises(ConfigError, match="leave none of the engine's 10 for an answer") as caught:
        run(engine, label_task())
    examples = label_task().examples
    assert f"{len(examples)} problems" in caught.value.message
    assert examples[0].id in caught.value.message
    assert engine.requests == []


def test_answers_of_another_engine_are_another_evaluation() -> None:
    ids = {
        evaluation_id(label_task(), Subject("tuned", BASE, engine=engine))
        for engine in ({}, {"kind": "embedded", "dtype": "float32"}, {"kind": "embedded", "dtype": "float16"})
    }
    assert len(ids) == 3


def test_the_same_work_has_the_same_id_and_other_work_another() -> None:
    subject = Subject("tuned", BASE, "adapter-1")
    first = evaluation_id(label_task(), subject)
    assert (
        first == evaluation_id(label_task(), subject) == evaluation_id(label_task(rows_per_batch=3), subject)
    )
    others = {
        evaluation_id(label_task(max_new_tokens=9), subject),
        evaluation_id(label_task(limit=6), subject),
        evaluation_id(label_task(), Subject("tuned", BASE, "adapter-2")),
        evaluation_id(label_task(), Subject("tuned", "other@sha256:0", "adapter-1")),
    }
    assert len(others | {first}) == 5


def test_settings_that_a_recipe_adds_do_not_change_the_id() -> None:
    class Section(EvaluateConfig):
        suites: tuple[str, ...] = ()
        """More."""

    subject = Subject("tuned", BASE)
    more = make_task(
        labelled(),
        data="ds-1/test",
        config=Section(suites=("a",)),
        main_metric="exact_match",
        labels=LABELS,
    )
    assert evaluation_id(more, subject) == evaluation_id(label_task(), subject)


def test_json_answers_are_judged_field_by_field() -> None:
    good = '{"company": "TAN WOON", "total": "9.00"}'
    rows = [example(f"receipt {i}", good) for i in range(4)]
    task = make_task(rows, data="ds-2/test", config=EvaluateConfig(), main_metric="field_match")
    answers = {
        "receipt 0": '{"total": "9.00", "company": "tan  woon"}',
        "receipt 1": '{"company": "TAN WOON", "total": "8.00"}',
        "receipt 2": f"Here you are: {good}",
        "receipt 3": '{"company": "TAN WOON", "total": "9.00", "tip": "1.00"}',
    }
    result = run(ScriptedEngine(answers), task)
    metrics = {name: metric.value for name, metric in result.evaluation.metrics.items()}
    assert metrics["valid_json"] == 0.75
    assert metrics["field_match"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert metrics["field_match.company"] == 0.75
    assert metrics["field_match.total"] == 0.5
    assert [p.correct for p in result.predictions] == [True, False, False, False]


def test_answers_cut_off_are_counted_in_a_warning() -> None:
    long = dict.fromkeys(TRUTH, "refund " * 20) | {"question 0": "ok"}
    evaluation = run(ScriptedEngine(long), label_task(max_new_tokens=5)).evaluation
    assert evaluation.warnings == ("29 of 30 answers were cut off at max_new_tokens = 5",)


def test_a_likelihood_that_is_no_number_leaves_perplexity_out_and_says_so() -> None:
    result = run(ScriptedEngine(TRUTH, nats=math.nan), label_task())
    assert "perplexity" not in result.evaluation.metrics
    assert "no finite number" in result.evaluation.warnings[0]
    assert not any(math.isnan(v) for p in result.predictions for v in p.scores.values())
    assert (
        type(result.evaluation).model_validate_json(result.evaluation.model_dump_json()) == result.evaluation
    )


class Watching:
    """Progress that remembers how far its bars came."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, float | None]] = []
        self.moved: list[float] = []
        self.events: list[str] = []

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator["Watching"]:
        self.bars.append((description, total))
        self.moved.append(0)
        yield self

    def advance(self, steps: float = 1) -> None:
        self.moved[-1] += steps

    def event(self, message: str, **rest: Any) -> None:
        self.events.append(message)


def test_progress_moves_with_every_batch_and_reaches_its_total() -> None:
    engine, progress = ScriptedEngine(TRUTH), Watching()
    subject = Subject("tuned", BASE)
    task = label_task(rows_per_batch=8, perplexity_limit=12)
    evaluate(engine, CharTokenizer(), task, subject=subject, progress=progress)
    assert engine.batch_sizes == [8, 8, 8, 6]
    assert progress.bars == [("tuned: answering", 30), ("tuned: likelihoods", 12)]
    assert progress.moved == [30, 12]


def test_tokens_count_prompts_and_answers_of_both_passes() -> None:
    engine = ScriptedEngine(TRUTH)
    evaluation = run(engine, label_task()).evaluation
    answered = sum(
        len(r.prompt) + len(TRUTH[q]) + 1 for r, (q, _) in zip(engine.requests, QUESTIONS, strict=True)
    )
    scored = sum(len(p) + len(c) for p, c in engine.scored)
    assert evaluation.tokens == answered + scored


def test_predictions_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    result = run(ScriptedEngine(TRUTH), label_task())
    write_predictions(tmp_path / "new" / "out.jsonl", result.predictions)
    assert tuple(read_predictions(tmp_path / "new" / "out.jsonl")) == result.predictions
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out.jsonl"]


def test_the_clock_dates_the_record() -> None:
    class Noon:
        def now(self) -> datetime:
            return datetime(2026, 1, 1, 12, tzinfo=UTC)

    subject = Subject("tuned", BASE)
    result = evaluate(ScriptedEngine(TRUTH), CharTokenizer(), label_task(), subject=subject, clock=Noon())
    assert result.evaluation.created_at == Noon().now()


def test_baselines_and_tuned_are_compared_on_the_same_rows() -> None:
    half = {q: a if i % 2 else "refund" for i, (q, a) in enumerate(QUESTIONS)}
    engine, task = ScriptedEngine(half, {"adapter-1": TRUTH}), label_task()
    train = [example(f"train {i}", a, label=a) for i, a in enumerate(LABELS * 4)]
    subjects = baseline_subjects(task, train, base=BASE, tokenizer=CharTokenizer())
    others = [evaluate(engine, CharTokenizer(), task, subject=s) for s in subjects]
    tuned = run(engine, task, "adapter-1")
    comparisons = compare_results(tuned, others)
    assert [c.a for c in comparisons] == [s.name for s in subjects]
    assert all(
        (c.b, c.metric, c.verdict, c.broken) == ("tuned", "exact_match", "better", 0) for c in comparisons
    )
    assert comparisons[0].fixed == sum(half[q] != a for q, a in QUESTIONS)


def test_scores_of_rows_come_from_the_engine_in_order() -> None:
    class Uneven(ScriptedEngine):
        def score(self, rows: Any, adapter: str | None = None) -> list[Score]:
            return [Score(-float(len(prompt)), len(completion)) for prompt, completion in rows]

    engine = Uneven(TRUTH)
    result = run(engine, label_task(perplexity_limit=None))
    for request, prediction in zip(engine.requests, result.predictions, strict=True):
        assert prediction.scores["logprob"] == -len(request.prompt)


class Dying(ScriptedEngine):
    """Answers some batches and then no more."""

    def __init__(self, batches: int, scored: int = 99) -> None:
        super().__init__(TRUTH)
        self.left, self.scores_left = batches, scored

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().generate(requests)

    def score(self, rows: Any, adapter: str | None = None) -> list[Score]:
        self.scores_left -= 1
        if self.scores_left < 0:
            raise KeyboardInterrupt
        return super().score(rows, adapter)


@pytest.mark.parametrize(("batches", "scored"), [(0, 9), (1, 9), (3, 9), (9, 0), (9, 1)])
def test_an_evaluation_that_was_killed_goes_on_and_gives_the_same_figures(
    tmp_path: Path, batches: int, scored: int
) -> None:
    subject, task = Subject("tuned", BASE), label_task(rows_per_batch=8, perplexity_limit=12)
    path = tmp_path / "answers.jsonl"
    whole = evaluate(ScriptedEngine(TRUTH), CharTokenizer(), task, subject=subject)
    with KeptAnswers(path, "one") as kept, pytest.raises(KeyboardInterrupt):
        evaluate(Dying(batches, scored), CharTokenizer(), task, subject=subject, kept=kept)
    path.write_bytes(path.read_bytes() + b'{"answer": "torn')
    engine = ScriptedEngine(TRUTH)
    with KeptAnswers(path, "one") as kept:
        again = evaluate(engine, CharTokenizer(), task, subject=subject, kept=kept)
    assert again.predictions == whole.predictions
    assert again.evaluation.metrics == whole.evaluation.metrics
    assert again.evaluation.tokens == whole.evaluation.tokens
    assert len(engine.requests) == max(0, 30 - 8 * batches)


@pytest.mark.parametrize("damage", ["another", "garbage"])
def test_answers_of_something_else_are_not_gone_on_from(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "answers.jsonl"
    with KeptAnswers(path, "one") as kept:
        kept.add_answers({"x": Answer("y", "stop", 1, 1, 0.5)})
    if damage == "garbage":
        path.write_text(path.read_text() + '{"answer": "x", "is": [1]}\n')
    with KeptAnswers(path, "other" if damage == "another" else "one") as kept:
        assert kept.answers == {}
        kept.add_answers({"z": Answer("y", "stop", 1, 1, 0.5)})
    with KeptAnswers(path, "other" if damage == "another" else "one") as kept:
        assert list(kept.answers) == ["z"]
