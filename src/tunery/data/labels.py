"""Labels: whether answers come from a closed set of classes, and what is odd about the classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tunery.core.errors import ConfigError, listed
from tunery.core.splits import SPLITS
from tunery.data.decisions import Curated

_MAX_CLASSES = 1000
_MAX_CHARS = 80
_ROWS_PER_CLASS = 3
_REPEATED_SHARE = 0.9
_MAX_NUMERIC_CLASSES = 20
_FEW_ROWS = 5
_LOOKS_LIKE_JSON = re.compile(r"[{\[].*\S.*[}\]]\s*\Z", re.S)
"""More than a bracket, which may be a class."""
_MOST_CLASSES_LOOKED_AT = 1000


def set_labels(curated: Curated) -> None:
    """Set the label set of rows, where their answers are classes of a closed one.

    Conversations may all end with the same answer: a warning says so.

    Raises:
        ConfigError: Every row of a table has the same answer, so there is nothing to learn.
    """
    mode = curated.config.labels
    if curated.judged:
        return
    answers = curated.rows.numbers("answer_key")
    if mode == "auto" and len(np.unique(answers[curated.kept])) > _MOST_CLASSES_LOOKED_AT:
        return
    _, first, curated.answer_codes = np.unique(answers, return_index=True, return_inverse=True)
    curated.answers = curated.rows.references(first)
    given = [curated.answers[c] for c in curated.answer_codes[curated.kept].tolist()]
    if mode == "auto" and len(set(given)) == 1 and all(c.shape != "columns" for c in curated.counts):
        curated.warnings.append(f"all {len(given):,} rows have the answer {given[0]!r:.80}")
        return
    curated.labels = find_labels(given, mode)


def find_labels(answers: Sequence[str], mode: Literal["auto", "closed", "open"]) -> tuple[str, ...] | None:
    """Return the sorted closed label set that answers are drawn from, or None for open text.

    Args:
        answers: Of every kept row.
        mode: ``auto`` looks at them: a closed set is short (80 characters, one line), small (up to 1,000, and
            at most a third as many as rows) and repeated (nine rows in ten share their answer with another);
            more than 20 different numbers are quantities, not classes.

    Raises:
        ConfigError: Every row has the same answer, so there is nothing to learn.
    """
    counts = Counter(answers)
    if mode == "open" or not counts:
        return None
    if len(counts) == 1 and (mode == "closed" or len(answers) > 1):
        (only,) = counts
        raise ConfigError(
            f"there is one class only: all {len(answers)} rows have the answer {only!r:.80}",
            hint="add rows of other classes, or map another output column",
        )
    if mode == "closed" or _looks_closed(counts, len(answers)):
        return tuple(sorted(counts))
    return None


def _looks_closed(counts: Counter[str], rows: int) -> bool:
    if not 2 <= len(counts) <= _MAX_CLASSES or rows < _ROWS_PER_CLASS * len(counts):
        return False
    if any(len(a) > _MAX_CHARS or "\n" in a or _LOOKS_LIKE_JSON.match(a) for a in counts):
        return False
    repeated = sum(count for count in counts.values() if count > 1)
    if repeated < _REPEATED_SHARE * rows:
        return False
    return len(counts) <= _MAX_NUMERIC_CLASSES or not all(_is_number(a) for a in counts)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def warn_of_labels(curated: Curated) -> None:
    """Add to the warnings what a person should know about the classes, once rows have their splits."""
    if curated.labels is not None:
        splits = [SPLITS[s] for s in curated.splits]
        curated.warnings += label_warnings(curated.row_labels(), splits, curated.labels)


def label_warnings(given: Sequence[str | None], splits: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return what a person should know about the classes: few rows, missing from a split, spelt alike.

    Args:
        given: Each row's class.
        splits: Each row's split.
        labels: All classes, sorted.
    """
    warnings = []
    train = Counter(label for label, s in zip(given, splits, strict=True) if s == "train")
    few = [f"{label!r} {train[label]}" for label in labels if train[label] < _FEW_ROWS]
    if few:
        warnings.append(f"{_classes(len(few))} under {_FEW_ROWS} training rows: {listed(few, 5)}")
    for split in ("validation", "test"):
        held = {label for label, s in zip(given, splits, strict=True) if s == split}
        missing = [repr(label) for label in labels if label not in held]
        if held and missing:
            warnings.append(
                f"the {split} split lacks {len(missing)} of {len(labels)} classes: {listed(missing, 5)}"
            )
    alike = Counter(" ".join(label.casefold().split()) for label in labels)
    for spelling in (a for a, count in alike.items() if count > 1):
        same = [repr(label) for label in labels if " ".join(label.casefold().split()) == spelling]
        warnings.append(f"classes that differ only in case or spacing: {', '.join(same)}")
    return warnings


def _classes(count: int) -> str:
    return "1 class has" if count == 1 else f"{count} classes have"
