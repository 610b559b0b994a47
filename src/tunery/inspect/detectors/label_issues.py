"""Label issues: classes and preferences that classifiers which did not see them hold for wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.errors import ConfigError
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Edit, Finding, FindingKind
from tunery.inspect.evidence import Case, drops, finding
from tunery.inspect.labels import LabelIssue, find_reversed_pairs, rank_label_issues
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
_REVERSED = FindingKind(
    "disputed_preference",
    "Reversed preferences",
    "medium",
    "Let a person look which answer is better, and swap or drop the pair.",
)
MOST_ROWS = 50_000
"""Rows that classifiers look at [rows]."""
_LABELS_UNSEEN, _PREFERENCES_UNSEEN = (
    FindingKind(
        f"{what}_not_verified",
        f"{what.capitalize()} not verified",
        "low",
        f"Inspect a part: data.sources[0].limit={MOST_ROWS}.",
    )
    for what in ("labels", "preferences")
)
"""More rows than classifiers look at, said so that silence is not taken for praise."""
_OF_LABELS = (_WRONG, _DOUBTFUL, _LABELS_UNSEEN)
_OF_PREFERENCES = (_REVERSED, _PREFERENCES_UNSEEN)
KINDS = (*_OF_LABELS, *_OF_PREFERENCES)

_MOST_DOUBTED = 0.5
_MANY_WRONG = 0.03
_MOST_CLASSES = 1000
_CONFUSIONS = 20


def find(
    columns: Columns,
    labels: Sequence[str | None] | None = None,
    rejected: Sequence[str | None] | None = None,
    *,
    encoder: Encoder | None = None,
    ignore: Collection[str] = (),
) -> Iterator[Finding]:
    """Find labels that are probably wrong, and preference pairs that are probably the wrong way round.

    Without an encoder words alone are compared and fewer errors are found. What is ignored altogether is not
    looked for: it takes minutes.

    Returns:
        ``label_error``: labels that classifiers which did not see them hold for wrong, each with an edit to
        the class they suggest, for a reviewer to accept; medium under 3 % of the rows. ``doubtful_label``:
        labels that may as well be wrong, with edits that drop the rows. ``disputed_preference``, without
        edits. ``labels_not_verified`` and ``preferences_not_verified`` in their place beyond 50,000 rows.
    """
    ignored = set(ignore)
    if labels is not None and not {kind.name for kind in _OF_LABELS} <= ignored:
        yield from _label_issues(columns, labels, encoder)
    if rejected is not None and not {kind.name for kind in _OF_PREFERENCES} <= ignored:
        yield from _reversed_pairs(columns, rejected, encoder)


def _label_issues(
    columns: Columns, labels: Sequence[str | None], encoder: Encoder | None
) -> Iterator[Finding]:
    rows = [(i, label) for i, label in enumerate(labels) if label is not None]
    if not 2 <= len({label for _, label in rows}) <= _MOST_CLASSES:
        return
    if len(rows) > MOST_ROWS:
        yield _unverified(columns, _LABELS_UNSEEN, "labels", len(rows))
        return
    prompts = [columns.prompts[i] for i, _ in rows]
    try:
        ranking = rank_label_issues(prompts, [label for _, label in rows], encoder=encoder)
    except ConfigError:
        return  # no prompt has a letter or a digit to judge a label by
    if ranking.likely > _MOST_DOUBTED * len(rows):
        return  # who doubts most labels cannot tell the classes by words, which says nothing of the labels
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


def _reversed_pairs(
    columns: Columns, rejected: Sequence[str | None], encoder: Encoder | None
) -> Iterator[Finding]:
    pairs = [(i, text) for i, text in enumerate(rejected) if text is not None]
    if len(pairs) > MOST_ROWS:
        yield _unverified(columns, _PREFERENCES_UNSEEN, "preferences", len(pairs))
        return
    prompts = [columns.prompts[i] for i, _ in pairs]
    chosen = [columns.answers[i] for i, _ in pairs]
    try:
        found = find_reversed_pairs(prompts, chosen, [text for _, text in pairs], encoder=encoder)
    except ConfigError:
        return  # no answer has a letter or a digit to prefer it for
    if not found:
        return
    message = (
        f"{counted(len(found), 'pair is', 'pairs are')} ordered against what the others prefer "
        f"({percent_of(len(found), len(pairs))})."
    )
    rows = [pairs[pair.row] for pair in found]
    cases = [
        Case(
            (i,),
            f"preferred: {columns.answers[i]:.90} | over: {text:.90}",
            f"reversed with probability {pair.score:.2f}",
        )
        for (i, text), pair in zip(rows, found, strict=True)
    ]
    scores = {columns.ids[i]: round(pair.score, 4) for (i, _), pair in zip(rows, found, strict=True)}
    yield finding(columns, _REVERSED, message, cases, numbers={"scores": scores})


def _unverified(columns: Columns, kind: FindingKind, what: str, count: int) -> Finding:
    """Say that ``count`` rows were not looked at."""
    message = f"The {what} of {count:,} rows were not verified: classifiers look at up to {MOST_ROWS:,} rows."
    return finding(columns, kind, message, [], numbers={"rows": count})
