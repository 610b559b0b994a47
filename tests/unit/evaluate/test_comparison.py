"""Comparing two sets of predictions, ours and from any source."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.evaluate.judged import macro_f1
from tunery.core.errors import ConfigError, ResourceError
from tunery.core.evaluation import Prediction
from tunery.evaluate.comparison import compare, compare_files
from tunery.evaluate.predictions import read_predictions, write_predictions
from tunery.evaluate.scorers import ScorerOptions
from tunery.statistics.mcnemar import mcnemar_exact, newcombe_interval


def predictions(
    answers: Sequence[str], references: Sequence[str], **scores: Sequence[float]
) -> list[Prediction]:
    return [
        Prediction(
            id=f"ex-{i}",
            prediction=answer,
            reference=reference,
            correct=answer == reference,
            scores={name: values[i] for name, values in scores.items()},
        )
        for i, (answer, reference) in enumerate(zip(answers, references, strict=True))
    ]


def write(path: Path, rows: Sequence[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def row(identity: Any, prediction: str = "x", reference: str = "x", **more: Any) -> dict[str, Any]:
    return {"id": identity, "prediction": prediction, "reference": reference, **more}


REFERENCES = ["a", "b"] * 20


def test_right_and_wrong_are_compared_exactly() -> None:
    a = predictions(["a"] * 40, REFERENCES)
    b = predictions([*REFERENCES[:38], "b", "a"], REFERENCES)
    result = compare(a, b, names=("few_shot", "tuned"))
    test = mcnemar_exact([p.correct for p in a], [p.correct for p in b])
    assert (result.fixed, result.broken, result.p_value) == test
    assert (result.fixed, result.broken) == (19, 1)
    assert result.ci95 == newcombe_interval(19, 19, 1, 1)
    assert result.difference == pytest.approx(18 / 40)
    assert (result.value_a, result.value_b) == (0.5, 0.95)
    assert (result.test, result.verdict) == ("mcnemar_exact", "better")
    assert result.broken_ids == ("ex-38",)
    assert result.fixed_ids[:2] == ("ex-1", "ex-3")


def test_turning_the_sides_turns_the_verdict() -> None:
    a, b = predictions(["a"] * 40, REFERENCES), predictions(REFERENCES, REFERENCES)
    forward, back = compare(a, b), compare(b, a)
    assert (forward.verdict, back.verdict) == ("better", "worse")
    assert (forward.fixed, forward.broken) == (back.broken, back.fixed)
    assert forward.difference == -back.difference
    assert forward.ci95 == pytest.approx((-back.ci95[1], -back.ci95[0]))


def test_too_few_disagreements_show_no_difference() -> None:
    a = predictions(["z"] * 5 + REFERENCES[5:], REFERENCES)
    result = compare(a, predictions(REFERENCES, REFERENCES))
    assert (result.fixed, result.p_value, result.verdict) == (5, 0.0625, "no difference shown")


def test_graded_scores_are_compared_by_randomization() -> None:
    a = predictions(REFERENCES, REFERENCES, field_match=[0.25, 0.75] * 20)
    b = predictions(REFERENCES, REFERENCES, field_match=[0.5, 0.75] * 20)
    result = compare(a, b, metric="field_match")
    assert result.test == "randomization"
    assert result.difference == pytest.approx(0.125)
    assert 0 < result.ci95[0] < 0.125 < result.ci95[1]
    assert result.verdict == "better"
    assert (result.fixed, result.broken) == (0, 0)


@pytest.mark.parametrize("metric", ["field_match", "macro_f1", "perplexity"])
def test_one_shared_row_shows_no_difference(metric: str) -> None:
    a = predictions(["z"], ["a"], field_match=[0.5], logprob=[-9.0], completion_tokens=[2.0])
    b = predictions(["a"], ["a"], field_match=[0.75], logprob=[-1.0], completion_tokens=[2.0])
    result = compare(a, b, metric=metric)
    assert (result.n, result.p_value, result.verdict) == (1, 1.0, "no difference shown")
    assert result.ci95[0] <= result.difference <= result.ci95[1]
    assert result.difference > 0


def test_macro_f1_is_compared_by_the_metric_itself() -> None:
    a = predictions(["a"] * 40, REFERENCES)
    b = predictions([*REFERENCES[:30], *["nonsense"] * 10], REFERENCES)
    result = compare(a, b, metric="macro_f1", options=ScorerOptions(labels=("a", "b")))
    assert result.value_a == pytest.approx(macro_f1(REFERENCES, ["a"] * 40).value)
    assert result.difference == pytest.approx(
        macro_f1(REFERENCES, [p.prediction for p in b]).value - macro_f1(REFERENCES, ["a"] * 40).value
    )
    assert result.verdict == "better"


def test_a_lower_perplexity_is_better() -> None:
    tokens = [4.0] * 40
    a = predictions(REFERENCES, REFERENCES, logprob=[-4.0, -5.0] * 20, completion_tokens=tokens)
    b = predictions(REFERENCES, REFERENCES, logprob=[-2.0, -3.0] * 20, completion_tokens=tokens)
    result = compare(a, b, metric="perplexity")
    assert (result.verdict, compare(b, a, metric="perplexity").verdict) == ("better", "worse")
    assert result.difference == pytest.approx((result.value_a or 0) - (result.value_b or 0))
    assert result.difference > 0


def test_rows_without_the_score_are_left_out_and_counted() -> None:
    a = predictions(REFERENCES, REFERENCES, field_match=[0.5, 0.75] * 20)
    b = [p if i < 10 else p.with_(scores={}) for i, p in enumerate(a)]
    result = compare(a, b, metric="field_match")
    assert (result.n, result.only_a, result.only_b) == (10, 30, 30)
    with pytest.raises(ConfigError, match="share no row with a score of 'valid_json'"):
        compare(a, b, metric="valid_json")


def test_files_from_elsewhere_are_compared_without_our_own_fields(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [row(i, "no", "yes") for i in range(10)] + [row(99)])
    b = write(tmp_path / "b.jsonl", [row(str(i), " yes ", "yes", model="gpt") for i in range(10)])
    result = compare_files(a, b)
    assert (result.a, result.b) == (str(a), str(b))
    assert (result.n, result.fixed, result.broken, result.only_a, result.only_b) == (10, 10, 0, 1, 0)
    assert result.p_value == pytest.approx(2 / 2**10)
    assert result.verdict == "better"


def test_our_own_files_give_what_the_predictions_give(tmp_path: Path) -> None:
    a, b = predictions(["a"] * 40, REFERENCES), predictions(REFERENCES, REFERENCES)
    write_predictions(tmp_path / "a.jsonl", a)
    write_predictions(tmp_path / "b.jsonl", b)
    names = (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    assert compare_files(Path(names[0]), Path(names[1])) == compare(a, b, names=names)


def test_one_files_kinder_judgement_is_not_set_against_ours(tmp_path: Path) -> None:
    kind = write(tmp_path / "kind.jsonl", [row(i, "Yes!", "yes", correct=True) for i in range(10)])
    plain = write(tmp_path / "plain.jsonl", [row(i, "Yes!", "yes") for i in range(10)])
    result = compare_files(plain, kind)
    assert (result.fixed, result.value_a, result.value_b) == (0, 0.0, 0.0)


def test_correct_alone_is_enough_when_both_files_have_it(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [{"id": i, "correct": 0} for i in range(3)])
    b = write(tmp_path / "b.jsonl", [{"id": i, "correct": True} for i in range(3)])
    assert compare_files(a, b).fixed == 3
    texts = write(tmp_path / "c.jsonl", [row(i) for i in range(3)])
    with pytest.raises(ConfigError, match="no texts to judge by"):
        compare_files(a, texts)


def test_a_prediction_that_is_json_is_compared_as_json_text(tmp_path: Path) -> None:
    a = write(
        tmp_path / "a.jsonl", ['{"id": 1, "prediction": {"b": 1, "a": 2}, "reference": {"a": 2, "b": 1}}']
    )
    assert compare_files(a, a).value_a == 1.0


def test_files_without_a_shared_id_show_their_ids(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.jsonl", [row("x1")]), write(tmp_path / "b.jsonl", [row("y1")])
    with pytest.raises(ConfigError, match=r"share no id: x1 against y1"):
        compare_files(a, b)


def test_files_that_disagree_about_what_is_right_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [row(1, reference="yes"), row(2)])
    b = write(tmp_path / "b.jsonl", [row(1, reference="no"), row(2)])
    with pytest.raises(ConfigError, match=r"id '1': reference 'yes' in .*a.jsonl, 'no' in .*b.jsonl"):
        compare_files(a, b)


def test_all_bad_rows_are_reported_at_once_by_number(tmp_path: Path) -> None:
    lines = [
        row(1),
        "",
        "{broken",
        [1],
        {"prediction": "x"},
        row(1),
        row(2, correct="yes"),
        {"id": 3, "prediction": "x"},
    ]
    path = write(tmp_path / "bad.jsonl", lines)
    with pytest.raises(ConfigError) as caught:
        compare_files(path, path)
    message = caught.value.message
    for part in (
        "row 3: not JSON",
        "row 4: expected a JSON object, found list",
        "row 5: needs an 'id'",
        "row 6: id '1' was already given on row 1",
        "row 7: 'correct' must be true or false, found 'yes'",
        "row 8: has no 'reference'",
    ):
        assert part in message
    assert message.count("row ") == 7


def test_a_thousand_bad_rows_fit_on_a_screen(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.jsonl", ["nonsense"] * 1000)
    with pytest.raises(ConfigError, match="and 980 more"):
        compare_files(path, path)


def test_files_that_hold_nothing_readable_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "latin.jsonl").write_bytes('{"id": 1, "prediction": "é"}'.encode("latin-1"))
    for name, message in (("empty", "has no rows"), ("latin", "not UTF-8"), ("missing", "No such file")):
        path = tmp_path / f"{name}.jsonl"
        with pytest.raises(ConfigError, match=message):
            compare_files(path, path)
    with pytest.raises(ConfigError, match="directory"):
        compare_files(tmp_path, tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_text(json.dumps(row(1)) + "\r\n", encoding="utf-8-sig")
    assert compare_files(path, path).n == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    good = predictions(["a"], ["a"])
    write_predictions(path, good)

    def failing() -> Any:
        yield good[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match="No space left"):
        write_predictions(path, failing())
    assert read_predictions(path) == good
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_folder_that_cannot_be_made_is_a_plain_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_predictions(tmp_path / "file" / "out.jsonl", [])


def test_rows_that_are_no_predictions_of_ours_are_refused_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "other.jsonl", [row(1)])
    with pytest.raises(ConfigError, match="row 1"):
        read_predictions(path)


def clustered(right: Sequence[bool], size: int) -> list[Prediction]:
    """Return predictions of which ``size`` in a row hang together."""
    found = predictions(["a" if r else "b" for r in right], ["a"] * len(right))
    return [p.with_(cluster=f"group {i // size}") for i, p in enumerate(found)]


def test_rows_that_hang_together_count_as_one() -> None:
    before, after = [False] * 40, [True] * 12 + [False] * 28
    alone = compare(predictions(["b"] * 40, ["a"] * 40), clustered(after, 1))
    together = compare(clustered(before, 4), clustered(after, 4))
    assert (alone.test, alone.verdict, alone.clusters) == ("mcnemar_exact", "better", None)
    assert (together.test, together.verdict, together.clusters) == (
        "randomization",
        "no difference shown",
        10,
    )
    assert together.difference == pytest.approx(alone.difference)
    assert together.p_value == pytest.approx(2 / 2**3, abs=0.02)  # three groups won, none lost
    assert together.ci95[0] < 0 < alone.ci95[0]
    assert (together.fixed, together.broken) == (12, 0)


def test_clusters_of_a_file_are_read(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [row(i, "no", "yes", cluster=i // 5) for i in range(20)])
    b = write(tmp_path / "b.jsonl", [row(i, "yes", "yes") for i in range(20)])
    result = compare_files(a, b)
    assert (result.clusters, result.verdict) == (4, "no difference shown")
