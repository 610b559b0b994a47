"""What is measured is settled, and refused, before anything is computed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluate.scripted import example
from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.task import Task, draw_stratified, make_task

LABELS = ("a", "b", "c")


def rows(count: int, labels: str = "abc") -> list[Example]:
    return [example(f"q{i}", labels[i % len(labels)], label=labels[i % len(labels)]) for i in range(count)]


def task(
    examples: list[Example], main: str = "exact_match", labels: tuple[str, ...] | None = None, **more
) -> Task:  # type: ignore[no-untyped-def]
    return make_task(
        examples, data="ds-1/test", config=EvaluateConfig(**more), main_metric=main, labels=labels
    )


def test_metrics_follow_from_what_the_outputs_are() -> None:
    assert task(rows(6), labels=LABELS).metrics == ("accuracy", "exact_match", "macro_f1", "perplexity")
    receipts = [example("q", '{"total": 1}'), example("p", '{"total": 2}')]
    assert task(receipts).metrics == ("exact_match", "field_match", "perplexity", "valid_json")
    assert task(receipts).parts == ("field_match.total",)
    assert task([example("q", "open text"), example("p", "more")]).metrics == ("exact_match", "perplexity")


def test_preference_accuracy_is_measured_of_pairs_and_refused_of_answers() -> None:
    answers = [example("q", "open text"), example("p", "more")]
    pairs = [e.with_(rejected="none") for e in answers]
    assert task(pairs).metrics == ("exact_match", "perplexity", "preference_accuracy")
    with pytest.raises(
        ConfigError, match="preference_accuracy needs preference pairs, and no row has a reje"
    ):
        task(answers, "preference_accuracy")


def test_perplexity_is_not_asked_of_a_single_row() -> None:
    one = [example("q", "open text")]
    assert task(one).metrics == ("exact_match",)
    with pytest.raises(
        ConfigError, match="perplexity needs 2 test rows at least, and ds-1/test has 1"
    ) as told:
        task(one, "perplexity")
    assert "data.split.test" in str(told.value)
    with pytest.raises(ConfigError, match="'perplexity' is not measured here"):
        task(one).check_metric("perplexity", what="gate.rules[0].metric")


def test_the_goals_metric_is_always_measured() -> None:
    assert task(rows(6), "macro_f1", LABELS, metrics=("exact_match",)).metrics == ("exact_match", "macro_f1")
    assert task([example("q", '{"total": 1}')], "field_match.total", metrics=("valid_json",)).metrics == (
        "valid_json",
        "field_match",
    )


@pytest.mark.parametrize(
    ("main", "scorer"),
    [("exact_match", "exact_match"), ("macro_f1", "accuracy"), ("perplexity", "exact_match")],
)
def test_the_goals_metric_says_who_judges_what_is_right(main: str, scorer: str) -> None:
    assert task(rows(6), main, LABELS).main_scorer == scorer


def test_a_metric_that_does_not_fit_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="macro_f1 needs a closed label set"):
        task([example("q", "text")], "macro_f1")
    with pytest.raises(ConfigError, match="1 are none: row row 1"):
        task([example("q", "text"), example("p", "{}")], "field_match")
    with pytest.raises(ConfigError, match="field 'totl' is in no reference"):
        task([example("q", '{"total": 1}')], fields=("totl",))
    with pytest.raises(
        ConfigError, match=r"'field_match.totl' is not measured here; did you mean 'field_match.total'"
    ):
        task([example("q", '{"total": 1}')], "field_match.totl")


def test_no_examples_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no examples"):
        task([])


def test_equal_rows_of_an_uncleaned_file_keep_ids_of_their_own() -> None:
    ids = [e.id for e in task([example("q", "x")] * 3).examples]
    assert len(set(ids)) == 3
    assert ids[0] == example("q", "x").id


def test_a_limit_keeps_the_shares_of_classes() -> None:
    examples = rows(300, "aaaabbbccd")
    drawn = draw_stratified(examples, 100, seed=1)
    assert Counter(e.label for e in drawn) == pytest.approx({"a": 40, "b": 30, "c": 20, "d": 10}, abs=1)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5))
def test_draws_are_exact_nested_and_blind_to_order(count: int, limit: int, seed: int) -> None:
    examples = rows(count)
    drawn = draw_stratified(examples, limit, seed=seed)
    assert len(drawn) == min(count, limit)
    assert drawn == [e for e in examples if e in drawn]
    assert {e.id for e in draw_stratified(examples[::-1], limit, seed=seed)} == {e.id for e in drawn}
    assert {e.id for e in draw_stratified(examples, max(1, limit - 1), seed=seed)} <= {e.id for e in drawn}


def test_another_seed_draws_other_rows() -> None:
    assert draw_stratified(rows(90), 9, seed=0) != draw_stratified(rows(90), 9, seed=1)
