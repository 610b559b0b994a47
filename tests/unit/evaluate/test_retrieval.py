"""Each question gets the train rows nearest to it, as many as fit, and none of its own group."""

from collections.abc import Sequence

import numpy as np

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.core.example import Example
from tunery.core.progress import Silent
from tunery.evaluate.config import BaselineConfig, EvaluateConfig
from tunery.evaluate.prompting import Subject, Window, baseline_subjects, prompt_lengths
from tunery.evaluate.retrieval import Likeness
from tunery.evaluate.run import evaluate, evaluation_id
from tunery.evaluate.task import Task, make_task
from tunery.text.features import Vectors

LABELS = ("card", "loan")
TRAIN = [
    example(f"{verb} my {what} {thing}", what, label=what)
    for what in LABELS
    for thing in ("today", "payment", "limit")
    for verb in ("where is", "cancel", "raise")
]
TEST = [example("raise my card limits", "card", label="card"), example("cancel a loan", "loan", label="loan")]


def task(**settings: object) -> Task:
    config = EvaluateConfig(baseline=BaselineConfig.model_validate(settings), metrics=("exact_match",))
    return make_task(TEST, data="ds-1/test", config=config, main_metric="exact_match", labels=LABELS)


def retrieved(window: Window | None = None, train: Sequence[Example] = TRAIN, **settings: object) -> Subject:
    found = baseline_subjects(
        task(**settings), train, base="tiny", tokenizer=CharTokenizer(), window=window, likeness=Likeness()
    )
    return next(s for s in found if s.name == "few_shot_retrieved")


def by_letters(texts: Sequence[str]) -> Vectors:
    counts = np.array([[text.count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_the_nearest_example_stands_last_and_is_the_one_of_most_shared_words() -> None:
    shots = retrieved(shots=3).prompting.chosen_for(TEST[0])
    assert len(shots) == 3
    assert shots[-1].prompt[-1].content == "raise my card limit"
    assert {shot.id for shot in shots} <= {row.id for row in TRAIN}


def test_an_encoders_nearest_are_those_of_the_largest_products() -> None:
    few = baseline_subjects(
        task(shots=4),
        TRAIN,
        base="tiny",
        tokenizer=CharTokenizer(),
        likeness=Likeness("letters", lambda: by_letters),
    )
    prompting = next(s for s in few if s.name == "few_shot_retrieved").prompting
    for question in TEST:
        rows = sorted(TRAIN, key=lambda e: e.id)
        products = (
            by_letters([e.prompt[-1].content for e in rows]) @ by_letters([question.prompt[-1].content])[0]
        )
        nearest = [rows[i].id for i in np.argsort(-products, kind="stable")[:4]]
        assert [e.id for e in prompting.chosen_for(question)] == nearest[::-1]


def test_a_row_of_the_questions_own_group_is_never_shown() -> None:
    twin = example("raise my card limits!", "card", label="card", group=TEST[0].group)
    prompting = retrieved(
        train=[*TRAIN, twin], shots="max", few_shot=False, few_shot_retrieved=True
    ).prompting
    assert twin.id not in {e.id for e in prompting.chosen_for(TEST[0])}
    assert len(prompting.chosen_for(TEST[0])) == len(TRAIN)
    assert twin.id in {e.id for e in prompting.chosen_for(TEST[1])}


def test_as_many_as_the_tokens_and_the_window_bear_are_shown_the_farthest_left_out_first() -> None:
    whole = retrieved(shots="max").prompting
    assert len(whole.chosen_for(TEST[0])) == len(TRAIN)
    lengths = prompt_lengths(CharTokenizer(), whole, TEST)
    narrow = retrieved(Window(lengths[TEST[0].id] - 1 + 64), shots="max").prompting
    assert narrow.chosen_for(TEST[0]) == whole.chosen_for(TEST[0])[1:]
    few = retrieved(shots="max", max_shot_tokens=150).prompting
    assert 0 < len(few.chosen_for(TEST[0])) < len(TRAIN)
    assert few.chosen_for(TEST[0])[-1] == whole.chosen_for(TEST[0])[-1]


def test_the_shots_of_every_row_are_on_record_with_its_answer() -> None:
    subject = retrieved(shots=2)
    result = evaluate(ScriptedEngine({}), CharTokenizer(), task(shots=2), subject=subject, progress=Silent())
    for row, asked in zip(result.predictions, TEST, strict=True):
        assert row.shots == tuple(shot.id for shot in subject.prompting.chosen_for(asked))
        assert len(row.shots) == 2
    assert result.evaluation.config["prompt"]["retrieved"]["by"] == "words"
    sample = result.evaluation.sample_prompt
    assert sample is not None
    assert sample.endswith("[assistant]\ncard\n\n[user]\nraise my card limits")


def test_the_evaluations_id_tells_the_train_rows_and_nothing_is_compared_for_it() -> None:
    def never() -> None:
        raise AssertionError("opened")

    def named(train: Sequence[Example]) -> str:
        found = baseline_subjects(
            task(),
            train,
            base="tiny",
            tokenizer=CharTokenizer(),
            likeness=Likeness("x", never),  # type: ignore[arg-type]
        )
        return evaluation_id(task(), next(s for s in found if s.name == "few_shot_retrieved"))

    assert named(TRAIN) == named(TRAIN[::-1]) != named(TRAIN[:-1])


def test_auto_stops_where_every_question_would_take_a_prompt_of_its_own_too_often() -> None:
    many = [example(f"question {i}", LABELS[i % 2], label=LABELS[i % 2]) for i in range(201)]
    for rows, there in ((many[:200], True), (many, False)):
        large = make_task(rows, data="d", config=EvaluateConfig(), main_metric="exact_match", labels=LABELS)
        found = baseline_subjects(large, TRAIN, base="tiny", tokenizer=CharTokenizer())
        assert any(s.name == "few_shot_retrieved" for s in found) is there
