"""Splits are exact, seeded, and never part a group."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.errors import ConfigError
from tunery.data.config import SplitConfig
from tunery.data.split.assign import assign, assign_by_time
from tunery.data.split.quotas import quotas

SIZES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 60), min_size=1, max_size=8)


@given(SIZES, st.integers(0, 200))
def test_quotas_are_exact_and_within_one_of_the_true_share(sizes: dict[str, int], total: int) -> None:
    given_out = quotas(sizes, total)
    whole = sum(sizes.values())
    asked = min(total, whole)
    assert sum(given_out.values()) == asked
    for stratum, count in sizes.items():
        share = Fraction(asked * count, whole) if whole else Fraction(0)
        assert abs(given_out[stratum] - share) < 1
        assert given_out[stratum] <= count


def test_singletons_are_stratified_exactly() -> None:
    strata = ["a"] * 100 + ["b"] * 50 + ["c"] * 50
    groups = [f"g{i}" for i in range(200)]
    result = assign(groups, strata, SplitConfig(test=0.2, validation=10))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for split, stratum in zip(result.splits, strata, strict=True):
        counts[split][stratum] += 1
    assert counts["test"] == {"a": 20, "b": 10, "c": 10}
    assert sum(counts["validation"].values()) == 10
    assert result.warnings == []


ROWS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=12, max_size=80)


@given(ROWS, st.integers(0, 5), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_no_group_straddles_splits_and_none_is_over_full(
    rows: list[tuple[int, str]], seed: int, test: float, validation: float
) -> None:
    groups, strata = [f"g{g}" for g, _ in rows], [s for _, s in rows]
    settings = SplitConfig(test=test, validation=validation, seed=seed, assign="exact")
    splits = assign(groups, strata, settings).splits
    homes = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        homes[group].add(split)
    assert all(len(h) == 1 for h in homes.values())
    counts = Counter(splits)
    assert counts["test"] <= max(1, round(test * len(rows)))
    assert counts["validation"] <= max(1, round(validation * len(rows)))
    assert counts["train"] > 0


@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_move_them(rows: list[tuple[int, str]], random: object) -> None:
    named = [(f"g{i}", stratum) for i, (_, stratum) in enumerate(rows)]
    shuffled = named.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    settings = SplitConfig(test=3, validation=3)
    first = dict(zip([g for g, _ in named], assign(*zip(*named, strict=True), settings).splits, strict=True))
    second = assign([g for g, _ in shuffled], [s for _, s in shuffled], settings).splits
    assert second == [first[g] for g, _ in shuffled]


@given(ROWS, st.integers(1, 80), st.integers(0, 5), st.floats(0.1, 0.4), st.floats(0.1, 0.4))
def test_by_hash_no_group_straddles_and_added_rows_move_none(
    rows: list[tuple[int, str]], before: int, seed: int, test: float, validation: float
) -> None:
    groups = [f"g{g}" for g, _ in rows]
    settings = SplitConfig(test=test, validation=validation, seed=seed)
    splits = assign(groups, [None] * len(rows), settings).splits
    homes = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        homes[group].add(split)
    assert all(len(h) == 1 for h in homes.values())
    assert "train" in splits
    # A few groups are too few to be left to chance; from 20 on each goes where its hash says.
    many = [f"m{i}" for i in range(40)] + groups
    some = many[: 40 + before]
    old = assign(some, [None] * len(some), settings).splits
    assert assign(many, [None] * len(many), settings).splits[: len(some)] == old


def test_by_hash_shares_hold_up_to_chance() -> None:
    groups = [f"g{i}" for i in range(20_000)]
    counts = Counter(assign(groups, [None] * 20_000, SplitConfig(test=0.1, validation=0.05)).splits)
    assert abs(counts["test"] - 2000) < 4 * math.sqrt(20_000 * 0.1 * 0.9)
    assert abs(counts["validation"] - 1000) < 4 * math.sqrt(20_000 * 0.05 * 0.95)


def test_by_hash_a_handful_of_groups_still_gives_something_to_judge_by() -> None:
    for seed in range(20):
        splits = assign([f"g{i}" for i in range(12)], [None] * 12, SplitConfig(seed=seed)).splits
        assert set(splits) == {"train", "validation", "test"}


def test_another_seed_draws_other_rows() -> None:
    groups: list[str] = [f"g{i}" for i in range(100)]
    none: list[str | None] = [None] * 100
    drawn = {tuple(assign(groups, none, SplitConfig(test=10, validation=0, seed=s)).splits) for s in range(5)}
    assert len(drawn) == 5


def test_a_class_keeps_a_row_to_learn_from() -> None:
    strata = ["rare"] * 2 + ["often"] * 18
    splits = assign([f"g{i}" for i in range(20)], strata, SplitConfig(test=9, validation=9)).splits
    assert "train" in splits[:2]
    assert "train" in splits[2:]


def test_groups_too_large_for_a_quota_are_passed_over_with_a_warning() -> None:
    groups = ["big"] * 10 + ["other"] * 10
    result = assign(groups, [None] * 20, SplitConfig(test=5, validation=0))
    assert set(result.splits) == {"train"}
    assert result.warnings == ["the test split has 0 rows of 5 requested: groups and classes are kept whole"]


def test_files_decide_their_rows_and_a_decided_split_is_not_drawn() -> None:
    groups = [f"g{i}" for i in range(30)]
    pinned = ["validation"] * 5 + ["train"] * 5 + [None] * 20
    splits = assign(groups, [None] * 30, SplitConfig(test=0.1, validation=0.5, assign="exact"), pinned).splits
    assert splits[:10] == ["validation"] * 5 + ["train"] * 5
    assert Counter(splits[10:]) == {"train": 18, "test": 2}


@pytest.mark.parametrize(
    ("rows", "test", "validation", "says"),
    [
        (3, 0.1, 0.1, "too few rows to split: 3 after cleaning, at least 10"),
        (20, 15, 5, "leave nothing of 20 to train on"),
        (0, 0, 0, "no row is left"),
    ],
)
def test_too_few_rows_are_refused(rows: int, test: float, validation: float, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        assign([f"g{i}" for i in range(rows)], [None] * rows, SplitConfig(test=test, validation=validation))


def test_without_held_out_splits_three_rows_will_do() -> None:
    assert assign(["a", "b", "c"], [None] * 3, SplitConfig(test=0, validation=0)).splits == ["train"] * 3


@pytest.mark.parametrize("test", [1.5, -1, -0.1])
def test_impossible_shares_are_refused(test: float) -> None:
    with pytest.raises(ValueError, match=r"under 1|greater than or equal"):
        SplitConfig(test=test)
    with pytest.raises(ValueError, match="leave nothing"):
        SplitConfig(test=0.5, validation=0.5)


def test_by_time_a_group_that_does_not_fit_ends_the_split() -> None:
    groups = ["a", "b", "c", "c", "c", "c", "d", *"efghijkl"]
    times = [float(100 - i) for i in range(len(groups))]
    result = assign_by_time(groups, times, SplitConfig(test=3, validation=2, by_time="at"))
    assert result.splits[:7] == ["test", "test", *["validation"] * 4, "train"]
    assert len(result.warnings) == 2


def test_by_time_one_group_of_all_rows_is_trained_on() -> None:
    result = assign_by_time(["a"] * 20, [1.0] * 20, SplitConfig(test=3, validation=0, by_time="at"))
    assert set(result.splits) == {"train"}


def test_where_files_decide_every_row_no_share_is_drawn_and_that_is_told() -> None:
    pinned = ["train"] * 10 + ["test"] * 5
    groups = [str(i) for i in range(15)]
    result = assign(groups, [None] * 15, SplitConfig(), pinned)  # type: ignore[arg-type]
    assert result.splits == pinned
    assert result.warnings == [
        "there is no validation split: the files say of every row which split it is in"
    ]
    with pytest.raises(ConfigError, match="say of every row"):
        assign(groups, [None] * 15, SplitConfig(validation=3), pinned)  # type: ignore[arg-type]


def test_by_hash_one_group_of_all_rows_leaves_splits_empty_and_says_so() -> None:
    result = assign(["a"] * 60, [None] * 60, SplitConfig(test=0.1, validation=0.1))
    assert set(result.splits) == {"train"}
    assert len(result.warnings) == 2
    assert all("is empty: one group holds 60 of 60 rows" in w for w in result.warnings)
