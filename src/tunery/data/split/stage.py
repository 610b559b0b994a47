"""Splitting: every row left goes to a split, and rows that the recipe does not want there go."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc

from tunery.core.errors import ConfigError
from tunery.core.example import SEED_PROMPTS, Drop
from tunery.core.ids import canonical_json, sampling_key
from tunery.core.splits import SPLITS, SplitName
from tunery.data.config import SourceConfig
from tunery.data.decisions import Curated
from tunery.data.split.assign import assign, assign_by_time


def split_rows(curated: Curated) -> None:
    """Send each group of rows to a split, then apply the limits that are drawn within splits.

    Args:
        curated: Rows with their groups.

    Raises:
        ConfigError: There is too little to split, or what the split goes by is missing.
    """
    config = curated.config
    pinned = _pinned(curated)
    names = _group_names(curated)
    if config.split.by_time is not None:
        result = assign_by_time(names, _times(curated, config.split.by_time), config.split, pinned)
    else:
        result = assign(names, _strata(curated), config.split, pinned)
    curated.warnings += result.warnings
    curated.splits = np.array([SPLITS.index(s) for s in result.splits], dtype=np.int8)
    _part(curated)
    _drop_written_after_held_out(curated)
    for i, source in enumerate(config.sources):
        if source.limit_per_class is not None:
            curated.drop(_surplus(curated, i, source))


def _strata(curated: Curated) -> list[str | None]:
    """Return what each kept row is stratified by, None throughout for nothing."""
    stratify = curated.config.split.stratify
    if stratify == "auto":
        stratify = "none" if curated.labels is None else "label"
    if stratify == "none":
        return [None] * len(curated.kept)
    columns = ("label",) if isinstance(stratify, str) else stratify
    if "label" in columns and curated.labels is None:
        raise ConfigError(
            "split.stratify is 'label', but the answers are open text", hint="set labels: closed"
        )
    labels = curated.row_labels()
    if columns == ("label",):
        return labels
    about = curated.metadata()
    return [
        canonical_json([label if c == "label" else row.get(c) for c in columns])
        for label, row in zip(labels, about, strict=True)
    ]


def _times(curated: Curated, column: str) -> list[float]:
    """Return the time of each kept row.

    Raises:
        ConfigError: A row has none, or one that is neither a number nor a date; lists the first ten.
    """
    times, problems = [], []
    for position, row in zip(curated.kept.tolist(), curated.metadata(), strict=True):
        value = row.get(column)
        try:
            times.append(_time(value))
        except ValueError:
            problems.append(f"{curated.where(position)}: {column} is {value!r:.40}, no number and no date")
    if problems:
        raise ConfigError.of_problems("data.split.by_time", problems, limit=10)
    return times


def _time(value: object) -> float:
    text = "" if value is None or isinstance(value, bool) else str(value).strip()
    try:
        number = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _group_names(curated: Curated) -> list[str]:
    """Name each row's group after what does not change when answers or system prompts do.

    That is the mapped group where there is one, else the prompt of the group's first row as it was before any
    edit: neither a label that is put right nor a text that is repaired moves a row to another split.
    """
    texts = curated.rows.numbers("name_key")
    roots, back = np.unique(curated.groups, return_inverse=True)
    keys = curated.rows.column("group_keys").take(roots).to_pylist()
    names = [
        f"group:{mapped[0]}" if mapped else f"prompt:{text:016x}"
        for mapped, text in zip(keys, texts[roots].tolist(), strict=True)
    ]
    return [names[i] for i in back.tolist()]


def _pinned(curated: Curated) -> list[SplitName | None]:
    """Return the split that each row or its file decides; rows that repeat a held-out one are removed."""
    decided: list[SplitName | None] = [None if s.split == "auto" else s.split for s in curated.config.sources]
    hinted = curated.rows.column("hinted").to_numpy()
    if not any(decided) and not hinted.any():
        return [None] * len(curated.kept)
    sources = curated.rows.sources
    splits: list[SplitName | None] = [
        "train" if hinted[i] else decided[sources[i]] for i in curated.kept.tolist()
    ]
    held: dict[int, int] = {}
    for name in ("test", "validation"):
        for i, (group, split) in enumerate(zip(curated.groups.tolist(), splits, strict=True)):
            if split == name:
                held.setdefault(group, i)
    drops = {}
    for i, (group, split) in enumerate(zip(curated.groups.tolist(), splits, strict=True)):
        keeper = held.get(group)
        if keeper is not None and split != splits[keeper]:
            detail = f"resembles {curated.where(int(curated.kept[keeper]))}, which is held out"
            drops[int(curated.kept[i])] = Drop("held_out_elsewhere", detail)
    left = [s for i, s in zip(curated.kept.tolist(), splits, strict=True) if i not in drops]
    curated.drop(drops)
    return left


def _part(curated: Curated) -> None:
    """Remove the later of two similar rows that ended up in different splits."""
    pairs = curated.apart
    split_of = np.full(len(curated.rows), -1, dtype=np.int8)
    split_of[curated.kept] = curated.splits
    a, b = split_of[pairs.first], split_of[pairs.second]
    astride = pairs.where((a >= 0) & (b >= 0) & (a != b))
    order = np.argsort(astride.second, kind="stable")
    drops: dict[int, Drop] = {}
    for first, second in zip(astride.first[order].tolist(), astride.second[order].tolist(), strict=True):
        if first not in drops and second not in drops:
            where = f"{curated.where(first)}, which is in the {SPLITS[split_of[first]]} split"
            drops[second] = Drop("held_out_elsewhere", f"resembles {where}")
    curated.drop(drops)


def _drop_written_after_held_out(curated: Curated) -> None:
    """Remove synthetic rows written after a row that is held out now, though the teacher saw it in train."""
    made = np.flatnonzero(
        pc.match_substring(curated.rows.column("metadata"), f'"{SEED_PROMPTS}"').to_numpy()[curated.kept]
    )
    if not len(made):
        return
    held = np.flatnonzero(curated.splits != SPLITS.index("train"))
    texts = curated.rows.numbers("text_key")[curated.kept[held]].tolist()
    place = {f"{text:016x}": int(curated.kept[i]) for text, i in zip(texts, held.tolist(), strict=True)}
    drops = {}
    written = curated.rows.column_at("metadata", curated.kept[made]).to_pylist()
    for i, metadata in zip(made.tolist(), written, strict=True):
        seeds = json.loads(metadata).get(SEED_PROMPTS, ())
        seed = next((place[s] for s in seeds if s in place), None)
        if seed is not None:
            drops[int(curated.kept[i])] = Drop(
                "seed_held_out", f"was written after {curated.where(seed)}, which is held out"
            )
    curated.drop(drops)


def _surplus(curated: Curated, position: int, source: SourceConfig) -> dict[int, Drop]:
    """Return the training rows of a source beyond its limit per class, drawn by hash."""
    limit, seed = source.limit_per_class, curated.config.split.seed
    if curated.labels is None:
        raise ConfigError(
            f"{source.path}: limit_per_class needs classes, but the answers are open text",
            hint="use limit: for a number of rows, or set labels: closed",
        )
    train = SPLITS.index("train")
    mine = np.flatnonzero((curated.splits == train) & (curated.rows.sources[curated.kept] == position))
    ids, labels = curated.ids(), curated.row_labels()
    classes: dict[str | None, list[int]] = {}
    for i in mine.tolist():
        classes.setdefault(labels[i], []).append(i)
    drop = Drop("over_limit", f"the source is limited to {limit} training rows of each class")
    return {
        int(curated.kept[i]): drop
        for members in classes.values()
        for i in sorted(members, key=lambda i: sampling_key(seed, "class", ids[i]))[limit:]
    }
