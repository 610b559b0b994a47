"""Numbers as people read them."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core import figures
from tunery.core.evaluation import Metric, Unit


def metric(name: str, value: float, low: float, high: float) -> Metric:
    return Metric(name=name, value=value, n=770, ci95=(low, high), method="wilson")


def test_the_examples_in_the_docstrings_hold() -> None:
    failed, tried = doctest.testmod(figures)
    assert (failed, tried >= 6) == (0, True)


@pytest.mark.parametrize(
    ("unit", "value", "share"),
    [("share", 0.9, True), ("number", 0.9, False), ("ms", 0.9, False), ("share", 1.2, False)],
)
def test_what_is_declared_a_share_reads_as_one(unit: Unit, value: float, share: bool) -> None:
    assert figures.is_share(unit, value) is share


@given(st.floats(0, 1))
def test_a_percentage_reads_back_to_within_its_last_digit(share: float) -> None:
    written = figures.percent(share)
    if written.startswith(("<", ">")):
        assert 0 < share < 0.0005 or 0.9995 <= share < 1
    else:
        assert float(written.removesuffix(" %")) / 100 == pytest.approx(share, abs=0.0005 + 1e-12)


@given(st.floats(0, 1))
def test_a_p_value_under_the_line_is_never_written_as_over_it(p: float) -> None:
    written = figures.p_value(p)
    shown = float(written.split()[-1])
    assert (shown < 0.05 or written == "p < 0.05") == (p < 0.05)


@given(st.floats(1e-6, 1e12))
def test_a_number_keeps_two_digits_at_least(value: float) -> None:
    assert float(figures.number(value).replace(",", "")) == pytest.approx(value, rel=0.05)


@given(st.integers(0, 400_000))
def test_a_duration_reads_back_to_within_a_minute_in_a_hundred(seconds: int) -> None:
    units = {"h": 3600, "min": 60, "s": 1}
    parts = figures.duration(seconds).split()
    read = sum(float(n) * units[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
    assert read == pytest.approx(seconds, abs=30 if seconds >= 3600 else 0.5)


def test_thousands_are_separated() -> None:
    assert figures.count(1234567) == "1,234,567"
    assert figures.counted(1, "row") == "1 row"


def test_rates_are_percentages_and_perplexity_is_a_number() -> None:
    rate, perplexity = metric("exact_match", 0.7312, 0.6987, 0.7612), metric("perplexity", 0.97, 0.9, 1.0)
    assert figures.metric_value(rate) == "73.1 %"
    assert figures.metric_interval(rate) == "69.9–76.1 %"
    assert figures.metric_value(perplexity) == "0.970"
    assert figures.metric_phrase(perplexity) == "a perplexity of 0.970"


def test_what_is_no_number_is_called_so() -> None:
    nan = float("nan")
    assert figures.metric_value(metric("exact_match", nan, nan, nan)) == "not a number"
    assert figures.p_value(nan) == "p unknown"


@pytest.mark.parametrize(
    ("value", "share", "quantity", "gap", "change"),
    [
        (0.857, True, "85.7 %", "85.7 points", "+85.7 points"),
        (0.0, True, "0.0 %", "0.0 points", "0.0 points"),
        (1.0, True, "100.0 %", "100.0 points", "+100.0 points"),
        (0.0004, True, "< 0.1 %", "under 0.1 points", "0.0 points"),
        (0.857, False, "0.857", "0.857", "+0.857"),
        (12.5, False, "12.5", "12.5", "+12.5"),
        (0.0, False, "0", "0", "0"),
    ],
)
def test_a_value_its_distance_and_its_change_have_one_unit(
    value: float,
    share: bool,
    quantity: str,
    gap: str,
    change: str,
) -> None:
    assert figures.quantity(value, share=share) == quantity
    assert figures.gap(value, share=share) == figures.gap(-value, share=share) == gap
    assert figures.change(value, share=share) == change
    assert figures.change(-value, share=share) == change.replace("+", "−")


@pytest.mark.parametrize(
    ("counts", "limit", "written"),
    [
        ({}, None, ""),
        ({"too_long": 1}, 5, "1 too_long"),
        ({"b": 2, "a": 2, "c": 3000}, None, "3,000 c, 2 a, 2 b"),
        ({"b": 2, "a": 2, "c": 3000}, 1, "3,000 c and 2 more"),
    ],
)
def test_names_are_listed_with_the_most_frequent_first(
    counts: dict[str, int], limit: int | None, written: str
) -> None:
    assert figures.listed_counts(counts, limit) == written


@pytest.mark.parametrize(
    ("events", "trials", "written"),
    [(0, 0, "unknown (0 of 0)"), (0, 50, "0.0 % (0 of 50)"), (12, 6000, "0.2 % (12 of 6,000)")],
)
def test_a_rate_comes_with_its_counts(events: int, trials: int, written: str) -> None:
    assert figures.rate(events, trials) == written


@given(st.floats(0, 1e15))
def test_an_amount_of_memory_reads_back_to_within_its_last_digit(amount: float) -> None:
    number, unit = figures.size(amount).split()
    read = float(number.replace(",", "")) * {"bytes": 1, "MB": 1e6, "GB": 1e9}[unit]
    assert read == pytest.approx(amount, rel=0.06, abs=0.5)


def test_subjects_go_from_plain_prompting_to_the_tuned_model() -> None:
    shuffled = ["tuned", "champion", "few_shot", "zero_shot_constrained", "zero_shot"]
    ordered = ["zero_shot", "few_shot", "zero_shot_constrained", "champion", "tuned"]
    assert sorted(shuffled, key=figures.subject_order) == ordered


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.booleans())
def test_a_value_beside_a_bound_reads_on_the_same_side_as_it_lies(one: int, other: int, share: bool) -> None:
    value, limit = one / 100_000, other / 100_000
    for written, configured in (
        (figures.quantity_beside(value, limit, share=share), figures.bound(limit, share=share)),
        (figures.gap_beside(-value, limit, share=share), figures.gap_bound(limit, share=share)),
    ):
        sign, _, digits = written.removesuffix(" %").removesuffix(" points").rpartition(" ")
        shown, required = float(digits), float(configured.split()[0])
        assert required == pytest.approx(limit * (100 if share else 1), abs=1e-9)
        if sign == ">":
            assert value > limit
            assert shown > required
        elif sign:
            assert value < limit
            assert shown < required
        else:
            assert (shown > required) == (one > other)
            assert (shown < required) == (one < other)


def test_a_percentage_is_written_here_and_nowhere_else() -> None:
    source = Path(figures.__file__).parents[1]
    own_way = re.compile(r"100(?:\.0)?:[,.]|:\.\d%|[.]\df\} ?%|\|format\(.*%")
    found = [
        f"{path.relative_to(source)}:{number}"
        for path in sorted([*source.rglob("*.py"), *source.rglob("*.j2")])
        if path.name != "figures.py"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if own_way.search(line)
    ]
    assert found == []
    assert own_way.search('f"{share * 100:.1f} %"')
    assert own_way.search('f"{share:.1%}"')
