"""Rows come into forwards of bounded size, beside those that begin as they do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunery.model.token_tree import LEAST_SAVED, computed_tokens, forwards

SYSTEM = tuple(range(40))
BEGINNINGS = st.sampled_from([(), SYSTEM, (*SYSTEM, 50, 51, 52), tuple(range(60, 72))])
SEQUENCES = st.tuples(BEGINNINGS, st.lists(st.integers(0, 3), min_size=1, max_size=9)).map(
    lambda parts: (*parts[0], *parts[1])
)
ROWS = st.lists(st.lists(SEQUENCES, min_size=1, max_size=3), min_size=1, max_size=14)


@given(ROWS, st.integers(1, 200), st.sampled_from([None, 1, 3]))
def test_every_row_comes_into_one_forward_that_keeps_its_bounds(
    rows: list[list[tuple[int, ...]]], most_tokens: int, most_rows: int | None
) -> None:
    found = forwards(rows, most_tokens=most_tokens, most_rows=most_rows)
    assert sorted(i for some in found for i in some) == list(range(len(rows)))
    for some in found:
        assert some == sorted(some)
        assert most_rows is None or len(some) <= most_rows
        sequences = [ids for i in some for ids in rows[i]]
        # Where sequences part within a few tokens, those are laid out for each.
        slack = LEAST_SAVED * len(sequences)
        assert len(some) == 1 or computed_tokens(sequences) <= most_tokens + slack


def test_rows_that_begin_alike_share_a_forward_whatever_their_order() -> None:
    tasks = [tuple(range(at, at + 30)) for at in (0, 100, 200)]
    rows = [[(*tasks[i % 3], 7, i)] for i in range(12)]
    found = forwards(rows, most_tokens=40)
    assert found == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_a_row_over_the_bound_is_computed_alone() -> None:
    rows = [[tuple(range(50))], [(1, 2, 3)], [(4, 5, 6)]]
    assert forwards(rows, most_tokens=10) == [[0], [1, 2]]


@given(ROWS)
def test_all_rows_share_one_forward_where_they_fit(rows: list[list[tuple[int, ...]]]) -> None:
    assert forwards(rows, most_tokens=10_000) == [list(range(len(rows)))]
