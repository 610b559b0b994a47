"""Slices: a loss on a part of the rows is seen though the whole gains, and chance on many parts is not."""

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tunery.core.evaluation import Slice
from tunery.core.figures import slice_sentence
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult, evaluate
from tunery.evaluate.slices import compare_slices, slice_of
from tunery.evaluate.task import Task, make_task

ROWS = [example(f"q{i}", "yes").with_(metadata={"language": "de" if i < 20 else "en"}) for i in range(100)]


def task_of(*columns: str) -> Task:
    return make_task(ROWS, data="d", config=EvaluateConfig(slices=columns), main_metric="exact_match")


def answered(task: Task, name: str, right: range) -> EvaluationResult:
    table = {f"q{i}": "yes" if i in right else "no" for i in range(100)}
    return evaluate(ScriptedEngine(table), CharTokenizer(), task, subject=Subject(name, "b@0", None))


def test_a_loss_on_one_slice_is_found_though_the_whole_gains() -> None:
    task = task_of("language")
    found = compare_slices(
        task, answered(task, "tuned", range(20, 100)), answered(task, "zero_shot", range(40))
    )
    assert [(part.value, part.verdict, part.metric.value) for part in found] == [
        ("de", "worse", 0.0),
        ("en", "better", 1.0),
    ]
    assert found[0].difference == -1.0
    assert found[1].difference == 0.75
    assert "where language is de" in slice_sentence(found[0])


def test_p_values_are_corrected_over_all_slices() -> None:
    one, two = task_of("language"), task_of("language", "turns")

    def run(task: Task) -> dict[str, Slice]:
        found = compare_slices(task, answered(task, "tuned", range(6)), answered(task, "zero_shot", range(0)))
        return {part.value: part for part in found}

    alone, among = run(one)["de"], run(two)["de"]
    assert alone.p_value == 2 * 0.03125
    assert among.p_value == 3 * 0.03125
    assert run(one)["de"].verdict == "no difference shown"


def test_small_slices_and_rows_without_the_column_are_left_out() -> None:
    task = task_of("nothing", "length")
    found = compare_slices(task, answered(task, "tuned", range(9)), answered(task, "zero_shot", range(9)))
    assert [(part.column, part.value) for part in found] == [("length", "up to 50")]
    assert slice_of(ROWS[0], "turns") == "1"


def test_slices_leave_the_ids_of_evaluations_as_they_are() -> None:
    plain, sliced = task_of(), task_of("language")
    assert answered(plain, "t", range(3)).evaluation.id == answered(sliced, "t", range(3)).evaluation.id
