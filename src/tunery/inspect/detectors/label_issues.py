"""Label issues: classes that classifiers which did not see them hold for wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.errors import ConfigError
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Edit, Finding, FindingKind
from tunery.inspect.evidence import MOST_ROWS, Case, drops, finding, not_verified, unverified
from tunery.inspect.labels import LabelIssue, rank_label_issues
from tunery.text.embeddings import Encoder

_WRONG = FindingKind(
    "label_error",
    "Wrong labels",
    "high",
    "Review them, the most doubtful first, and accept or refuse the suggested label.",
    is_guess=True,
)
_DOUBTFUL = FindingKind(
    "doubtful_label",
    "Doubtful labels",
    "low",
    "Review them where a person can tell; to train, a set is better off without them.",
)
_NOT_VERIFIED = not_verified("labels")
KINDS = (_WRONG, _DOUBTFUL, _NOT_VERIFIED)

_MANY_WRONG = 0.03
_MOST_CLASSES = 1000
_CONFUSIONS = 20


def find(
    columns: Columns, labels: Sequence[str | None], *, encoder: Encoder | None = None
) -> Iterator[Finding]:
    """Find labels that are probably wrong.

    Without an encoder words alone are compared and fewer errors are found.

    Returns:
        ``label_error``: labels that classifiers which did not see them hold for wrong, each with an edit to
        the class they suggest, for a reviewer to accept; medium under 3 % of the rows. ``doubtful_label``:
        labels that may as well be wrong, with edits that drop the rows. ``labels_not_verified`` in their
        place beyond 50,000 rows.
    """
    rows = [(i, label) for i, label in enumerate(labels) if label is not None]
    if not 2 <= len({label for _, label in rows}) <= _MOST_CLASSES:
        return
    if len(rows) > MOST_ROWS:
        yield unverified(columns, _NOT_VERIFIED, "labels", len(rows))
        return
    prompts = [columns.prompts[i] for i, _ in rows]
    try:
        ranking = rank_label_issues(prompts, [label for _, label in rows], encoder=encoder)
    except ConfigError:
        return  # no prompt has a letter or a digit to judge a label by
    issues = [issue._replace(row=rows[issue.row][0]) for issue in ranking.issues]
    likely, doubtful = issues[: ranking.likely], ranking._replace(issues=issues).doubtful
    if doubtful:
        message = (
            f"{counted(len(doubtful), 'row has', 'rows have')} a label that may as well be wrong "
            f"({percent_of(len(doubtful), len(rows))})."
        )
        edits = drops(columns, _DOUBTFUL, (issue.row for issue in doubtful))
        cases, scores = _cases(columns, doubtful, "perhaps"), _scores(columns, doubtful)
        yield finding(columns, _DOUBTFUL, message, cases, edits=edits, numbers={"scores": scores})
    if likely:
        kind = _WRONG if len(likely) >= _MANY_WRONG * len(rows) else _WRONG._replace(severity="medium")
        message = (
            f"{counted(len(likely), 'row has', 'rows have')} a label that is probably wrong "
            f"({percent_of(len(likely), len(rows))})."
        )
        edits = [
            Edit(row=columns.ids[issue.row], action="set_output", value=issue.suggested, reason=kind.name)
            for issue in likely
        ]
        cases, scores = _cases(columns, likely, "looks like"), _scores(columns, likely)
        confused = {"confusions": _confusions(likely), "scores": scores}
        yield finding(columns, kind, message, cases, edits=edits, numbers=confused)


def _cases(columns: Columns, issues: Sequence[LabelIssue], words: str) -> list[Case]:
    return [
        Case((i,), columns.prompts[i], f"labelled {given}, {words} {suggested} (doubt {score:.2f})")
        for i, given, suggested, score in issues
    ]


def _scores(columns: Columns, issues: Sequence[LabelIssue]) -> dict[str, float]:
    return {columns.ids[issue.row]: round(issue.score, 4) for issue in issues}


def _confusions(issues: Sequence[LabelIssue]) -> list[dict[str, str | int]]:
    counts = Counter((issue.given, issue.suggested) for issue in issues)
    return [
        {"given": given, "suggested": suggested, "rows": rows}
        for (given, suggested), rows in counts.most_common(_CONFUSIONS)
    ]
