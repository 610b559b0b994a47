"""How an error says what was perhaps meant, and how many there are of a kind."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core import errors
from tunery.core.errors import ConfigError, NotFoundError, did_you_mean, first_of, listed

NAMES = st.lists(st.text("abc", min_size=1, max_size=3), max_size=30)


def test_the_examples_in_the_docstrings_hold() -> None:
    failed, tried = doctest.testmod(errors)
    assert (failed, tried >= 4) == (0, True)


@pytest.mark.parametrize(
    ("name", "known", "written"),
    [
        ("epohcs", ["epochs", "rank"], "; did you mean 'epochs'?"),
        ("epohcs", [], ""),
        ("quite another word", ["epochs", "rank"], ""),
        ("", ["epochs"], ""),
    ],
)
def test_the_nearest_name_is_offered_only_where_one_is_near(
    name: str, known: list[str], written: str
) -> None:
    assert did_you_mean(name, known) == written


@given(NAMES, st.integers(1, 40))
def test_what_is_shown_and_what_is_counted_add_up(items: list[str], limit: int) -> None:
    lines = first_of(items, limit)
    counted = int(lines.pop().split()[1]) if len(items) > limit else 0
    assert lines == items[:limit]
    assert len(lines) + counted == len(items)


@given(NAMES, st.integers(1, 40), st.integers(0, 5000))
def test_names_in_a_sentence_count_the_rest_like_lines_do(items: list[str], limit: int, rest: int) -> None:
    total = len(items) + rest if len(items) >= limit else None
    lines = first_of(items, limit, total=total)
    assert listed(items, limit, total=total).removeprefix(", ".join(items[:limit])).strip() == (
        lines[-1] if len(lines) > len(items[:limit]) else ""
    )


def test_an_error_that_shows_ten_problems_says_how_many_there_are() -> None:
    problems = [f"row {n}: no answer" for n in range(1, 1235)]
    for error in (
        ConfigError.of_problems("rows.csv", problems, limit=10),
        ConfigError.of_problems("rows.csv", problems[:10], total=1234),
    ):
        first, *lines = error.message.splitlines()
        assert first == "rows.csv: 1,234 problems"
        assert (len(lines), lines[-1]) == (11, "  - and 1,224 more")


def test_one_problem_is_reported_in_one_line() -> None:
    assert ConfigError.of_problems("rows.csv", ["row 3: no answer"], limit=10).message == (
        "rows.csv: row 3: no answer"
    )


def test_a_name_that_does_not_exist_comes_with_the_nearest_and_with_what_there_is() -> None:
    error = NotFoundError.of("model", "bto", [f"bot-{n}" for n in range(12)] + ["bot"])
    assert error.message.startswith("no model named 'bto'; did you mean 'bot'? (there is: bot, bot-0, ")
    assert error.message.endswith(" and 3 more)")
    assert NotFoundError.of("model", "bot", []).message == "no model named 'bot' (there is no model yet)"
