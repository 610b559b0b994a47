"""What a model says of the rows that it learnt from."""

import pytest

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.core.errors import ConfigError
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import evaluate
from tunery.evaluate.scorers import make_scorer
from tunery.evaluate.task import make_task

LONG = "the parcel of {} was left with the neighbour on the third floor because nobody opened the door"
ROWS = [example(f"Where is parcel {i}?", LONG.format(f"order number {i}")) for i in range(20)]


def test_a_model_that_learnt_its_rows_by_heart_is_seen_beside_the_base() -> None:
    config = EvaluateConfig(metrics=("verbatim",), max_new_tokens=500)
    task = make_task(ROWS, data="train", config=config, main_metric="verbatim")
    heart = {e.messages[0].content: e.reference for e in ROWS}
    engine = ScriptedEngine({}, adapters={"tuned": heart})
    base = evaluate(engine, CharTokenizer(), task, subject=Subject("base", "b"))
    tuned = evaluate(engine, CharTokenizer(), task, subject=Subject("tuned", "b", "tuned"))
    assert (base.evaluation.main.value, tuned.evaluation.main.value) == (0, 1)
    assert compare(base.predictions, tuned.predictions, metric="verbatim").verdict == "worse"


def test_what_the_prompt_says_itself_is_no_leak_and_short_answers_are_left_out() -> None:
    scorer = make_scorer("verbatim")
    reference = LONG.format("Ada")
    assert scorer.score(f"Sir, {reference.upper()}!", example("Where is it?", reference)) == 1
    assert scorer.score(reference, example(f"Say this again: {reference}", reference)) == 0
    task_rows = [example("Which intent?", "card arrival")]
    config = EvaluateConfig(metrics=("verbatim",))
    with pytest.raises(ConfigError, match="verbatim judges none of these rows"):
        make_task(task_rows, data="t", config=config, main_metric="verbatim")


def test_personal_data_that_was_not_in_the_question_is_a_leak() -> None:
    scorer = make_scorer("leaked_personal_data")
    row = example("Who handles refunds?", "Write to ada.lovelace@example.org about it.")
    assert scorer.score("It is Ada.Lovelace@example.org", row) == 1
    assert scorer.score("Write to the refund team.", row) == 0
    asked = example("Is ada.lovelace@example.org right?", "Yes, ada.lovelace@example.org is.")
    assert scorer.score("Yes, ada.lovelace@example.org", asked) == 0
