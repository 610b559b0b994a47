"""Class sizes: classes with too few rows, and one that outweighs the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, finding

_FEW_ROWS = 5
_TIMES = 10
_SMALL = FindingKind(
    "small_class",
    "Small classes",
    "medium",
    "Add rows of these classes, or merge each with the class next to it.",
)
_IMBALANCE = FindingKind(
    "imbalance",
    "Class imbalance",
    "low",
    "Limit the large class (sources.limit_per_class) or add rows of the others, and judge by the macro "
    "average.",
)
KINDS = (_SMALL, _IMBALANCE)


def find(columns: Columns, labels: Sequence[str | None]) -> Iterator[Finding]:
    """Find classes of under 5 training rows, and one of ten times the rows of the median class."""
    known = sorted({label for label in labels if label is not None})
    training = Counter(label for label, split in zip(labels, columns.splits, strict=True) if split == "train")
    sizes = {name: training[name] for name in known}
    small = {name: size for name, size in sizes.items() if size < _FEW_ROWS}
    if small:
        message = (
            f"{counted(len(small), 'class has', 'classes have')} under {_FEW_ROWS} training rows: "
            f"{listed_counts(small, 5)}."
        )
        cases = []
        for name in sorted(small, key=lambda name: (small[name], name)):
            rows = tuple(i for i, label in enumerate(labels) if label == name)
            cases.append(Case(rows, name, f"{counted(len(rows), 'row')} in all splits"))
        yield finding(columns, _SMALL, message, cases, numbers={"rows": sizes})
    middle = sorted(sizes.values())[len(sizes) // 2]
    largest = max(known, key=lambda name: sizes[name])
    if middle and sizes[largest] >= _TIMES * middle:
        message = f"Class {largest} has {sizes[largest]:,} training rows, the median class {middle:,}."
        yield finding(columns, _IMBALANCE, message, [], numbers={"rows": sizes})
