"""Records of evaluations, those of earlier versions among them."""

import doctest

import pytest

from tunery.core import evaluation
from tunery.core.evaluation import Comparison, Metric


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(evaluation) == (0, 1)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("exact_match", "exact match"),
        ("macro_f1", "macro F1"),
        ("field_match.total_sum", "fields right: total sum"),
        ("perplexity", "perplexity"),
    ],
)
def test_records_from_before_titles_were_stored_are_read_with_one(name: str, title: str) -> None:
    old = {"name": name, "value": 0.5, "n": 10, "ci95": [0.4, 0.6], "method": "wilson"}
    read = Metric.model_validate(old)
    assert read.title == title
    assert Metric.model_validate_json(read.model_dump_json()) == read
    compared = {
        "a": "a",
        "b": "b",
        "metric": name,
        "n": 1,
        "fixed": 0,
        "broken": 0,
        "p_value": 1,
        "difference": 0,
        "ci95": [0, 0],
        "test": "mcnemar_exact",
        "verdict": "worse",
    }
    assert Comparison.model_validate(compared).metric_title == title
