"""Labels that are probably wrong, and preference pairs whose order is probably reversed.

>>> from tunery.inspect.labels import find_label_issues
>>> texts = [f"where is my card {i}" for i in range(20)] + [f"refund of order {i}" for i in range(20)]
>>> labels = ["card"] * 20 + ["refund"] * 20
>>> labels[3] = "refund"
>>> [(issue.row, issue.given, issue.suggested) for issue in find_label_issues(texts, labels, count=1)]
[(3, 'refund', 'card')]

They were ``tunery.data.labels.suspect`` and ``tunery.data.disputes.disputed_pairs`` before.
"""

from tunery.inspect.labels.label_issues import (
    LabelIssue,
    LabelIssueRanking,
    find_label_issues,
    rank_label_issues,
)
from tunery.inspect.labels.reversed_pairs import ReversedPair, find_reversed_pairs

__all__ = [
    "LabelIssue",
    "LabelIssueRanking",
    "ReversedPair",
    "find_label_issues",
    "find_reversed_pairs",
    "rank_label_issues",
]
