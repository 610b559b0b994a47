"""Split: which rows are held out, with groups kept whole, by hash or exactly proportioned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.ids import sampling_key
from tunery.core.splits import SplitName
from tunery.data.config import SplitConfig
from tunery.data.split.quotas import quotas

MINIMUM_ROWS = 10
"""Below this no split says anything: one held-out row would be worth ten points of accuracy."""


class SplitResult(NamedTuple):
    """Where every row goes."""

    splits: list[SplitName]
    """One per row."""
    warnings: list[str]


def by_hash(settings: SplitConfig) -> bool:
    """Tell whether rows are assigned one by one, so that added rows never move old ones.

    Counts of rows cannot be met that way: a count is drawn from all rows, exactly.
    """
    if settings.by_time is not None:
        return False
    if settings.assign == "auto":
        return all(isinstance(v, float) or v == 0 for v in (settings.test, settings.validation))
    return settings.assign == "hash"


def assign(
    groups: Sequence[str],
    strata: Sequence[str | None],
    settings: SplitConfig,
    pinned: Sequence[SplitName | None] | None = None,
) -> SplitResult:
    """Divide rows into train, validation and test.

    By hash, a group's seeded hash alone says where it goes: each split gets its share up to chance, and rows
    added later move none. Exactly, the test split is drawn first, then validation from what is left; each
    stratum's share is exact to the row (largest remainder). Within a stratum groups come in the order of the
    same hash, and a group that does not fit a quota is passed over whole.

    Args:
        groups: Each row's group name; rows of one group share a split.
        strata: Each row's class, or None throughout for no strata.
        settings: Sizes, seed and way.
        pinned: Each row's split where its file has decided it; no group may be pinned to two. A split that
            any row is pinned to is not drawn.

    Raises:
        ConfigError: Too few rows for the requested splits.
    """
    plan = _plan(groups, settings, pinned)
    if by_hash(settings):
        _assign_by_hash(plan, groups, settings)
    else:
        _assign_exactly(plan, groups, strata, settings)
    return plan.result(groups)


def assign_by_time(
    groups: Sequence[str],
    times: Sequence[float],
    settings: SplitConfig,
    pinned: Sequence[SplitName | None] | None = None,
) -> SplitResult:
    """Hold out the newest groups of rows: test first, then validation.

    A group that is too large for what is left of a split ends it: no older one takes its place, for then the
    rows trained on would be newer than those held out.

    Args:
        groups: Each row's group name; a group is as new as its newest row.
        times: Each row's time, any unit.
        settings: Sizes; of equally new groups the seed decides.
        pinned: As in :func:`assign`.

    Raises:
        ConfigError: Too few rows for the requested splits.
    """
    plan = _plan(groups, settings, pinned)
    newest: dict[str, float] = {}
    for group, time in zip(groups, times, strict=True):
        newest[group] = max(time, newest.get(group, time))
    rows = Counter(groups)
    order = sorted(
        (g for g in newest if g not in plan.where),
        key=lambda g: (-newest[g], sampling_key(settings.seed, "split", g)),
    )
    left = sum(rows[g] for g in order)
    for name, size in plan.sizes.items():
        got = 0
        for group in order:
            if group in plan.where:
                continue
            # The first one is taken whatever its size: a split without a row judges nothing.
            if got >= size or (got and got + rows[group] > size) or rows[group] >= left:
                break
            plan.where[group] = name
            got += rows[group]
            left -= rows[group]
        plan.warn_unless_met(name, got, "groups")
    return plan.result(groups)


@dataclass(slots=True)
class _SplitPlan:
    """What is decided so far."""

    where: dict[str, SplitName]
    """Groups that are in a split of their own choice or of their file's; all others are in train."""
    sizes: dict[SplitName, int]
    """Rows to hold out [count]."""
    warnings: list[str]

    def warn_unless_met(self, name: SplitName, got: int, whole: str) -> None:
        if got != self.sizes[name]:
            requested = f"the {name} split has {got} rows of {self.sizes[name]} requested"
            self.warnings.append(f"{requested}: {whole} are kept whole")

    def result(self, groups: Sequence[str]) -> SplitResult:
        return SplitResult([self.where.get(g, "train") for g in groups], self.warnings)


def _plan(
    groups: Sequence[str], settings: SplitConfig, pinned: Sequence[SplitName | None] | None
) -> _SplitPlan:
    pinned = pinned or [None] * len(groups)
    decided = {g: name for g, name in zip(groups, pinned, strict=True) if name is not None}
    free = sum(g not in decided for g in groups)
    requested: dict[SplitName, float] = {"test": settings.test, "validation": settings.validation}
    drawn = {name: share for name, share in requested.items() if name not in decided.values()}
    sizes = {name: _size(drawn.get(name, 0), free) for name in requested}
    _check_sizes(len(groups), free, sizes["test"], sizes["validation"])
    warnings = [
        f"there is no {name} split: the files say of every row which split it is in"
        for name, share in drawn.items()
        if share and not free
    ]
    return _SplitPlan(decided, sizes, warnings)


def _assign_by_hash(plan: _SplitPlan, groups: Sequence[str], settings: SplitConfig) -> None:
    where = plan.where
    free = [g for g in dict.fromkeys(groups) if g not in where]
    drawn = {g: int(sampling_key(settings.seed, "split", g)[:13], 16) / 16**13 for g in free}
    start = 0.0
    for name, size in plan.sizes.items():
        if not size:
            continue
        end = start + (settings.test if name == "test" else settings.validation)
        left = [g for g in free if g not in where]
        taken = [g for g in left if start <= drawn[g] < end]
        # Very few groups: the one that comes nearest, so that there is something to judge by.
        where.update((g, name) for g in taken or sorted(left, key=lambda g: (abs(drawn[g] - end), g))[:1])
        start = end
    if free and "train" not in {where.get(g, "train") for g in groups}:
        del where[max(free, key=lambda g: (drawn[g], g))]
    for name, size in plan.sizes.items():
        if size and name not in where.values():
            plan.warnings.append(
                f"the {name} split is empty: one group holds {max(Counter(groups).values()):,} of "
                f"{len(groups):,} rows; rows that share a value in a group column, or resemble each other, "
                "stay together"
            )


def _assign_exactly(
    plan: _SplitPlan, groups: Sequence[str], strata: Sequence[str | None], settings: SplitConfig
) -> None:
    rows = Counter(groups)
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for group, stratum in zip(groups, strata, strict=True):
        seen[group][stratum or ""] += 1
    stratum_of = {group: counts.most_common(1)[0][0] for group, counts in seen.items()}
    order = sorted(seen, key=lambda g: sampling_key(settings.seed, "split", g))
    for name, size in plan.sizes.items():
        taken = _draw([g for g in order if g not in plan.where], rows, stratum_of, size)
        plan.where.update((group, name) for group in taken)
        plan.warn_unless_met(name, sum(rows[g] for g in taken), "groups and classes")


def _size(requested: int | float, rows: int) -> int:
    if isinstance(requested, float):
        return max(1, round(requested * rows)) if requested > 0 and rows else 0
    return requested


def _check_sizes(rows: int, free: int, test: int, validation: int) -> None:
    check_rows(rows, splitting=bool(test or validation))
    if (test or validation) and not free:
        raise ConfigError(
            f"test {test} + validation {validation} rows are requested, and the files say of every row which "
            "split it is in",
            hint="set split: {test: 0, validation: 0}, or split: auto for a source",
        )
    if (test or validation) and test + validation >= free:
        raise ConfigError(
            f"test {test} + validation {validation} rows leave nothing of {free} to train on",
            hint=f"ask for fewer held-out rows; together at most {free - 1}",
        )


def check_rows(rows: int, *, splitting: bool) -> None:
    """Refuse to go on with too few rows.

    Raises:
        ConfigError: Says how many are needed.
    """
    if not rows:
        raise ConfigError("no row is left after cleaning")
    if splitting and rows < MINIMUM_ROWS:
        raise ConfigError(
            f"too few rows to split: {rows} after cleaning, at least {MINIMUM_ROWS} are needed",
            hint="add rows, or set split: {test: 0, validation: 0} to train without evidence",
        )


def _draw(
    order: Sequence[str], rows_of: Mapping[str, int], stratum_of: Mapping[str, str], size: int
) -> list[str]:
    """Take groups in order until every stratum's quota is met; then, if short, whatever still fits."""
    available: Counter[str] = Counter()
    for group in order:
        available[stratum_of[group]] += rows_of[group]
    free_rows = quotas(available, size)
    # A class keeps at least one row to learn from, wherever it has one.
    left = (
        Counter({s: count - 1 for s, count in available.items()}) if len(available) > 1 else available.copy()
    )
    short = size
    taken: dict[str, None] = {}
    for strict in (True, False):
        for group in order:
            stratum, rows = stratum_of[group], rows_of[group]
            limit = min(free_rows[stratum], left[stratum], short) if strict else min(left[stratum], short)
            if rows > limit or (not strict and group in taken):
                continue
            taken[group] = None
            free_rows[stratum] -= rows
            left[stratum] -= rows
            short -= rows
        if not short:
            break
    return list(taken)
