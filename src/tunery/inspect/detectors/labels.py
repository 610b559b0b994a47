"""Labels: wrong ones, disputed preferences, classes too small or too large."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, listed_counts, percent_of
from tunery.core.finding import Edit, Finding
from tunery.inspect.evidence import Case, Verdict, made
from tunery.inspect.labels.reversed_pairs import disputed_pairs
from tunery.inspect.labels.wrong_labels import Suspect, rank_suspects
from tunery.text.embeddings import Encoder

_FEW_ROWS = 5
_TIMES = 10
_MANY_WRONG = 0.03
_MOST_ROWS = 50_000
_MOST_CLASSES = 1000


def label_findings(columns: Columns, *, encoder: Encoder | None = None) -> list[Finding]:
    """Find what is wrong with classes and with preferences.

    Args:
        columns: The rows.
        encoder: Gives sentence embeddings; without one words alone are compared and fewer errors are found.

    Returns:
        ``label_error``: labels that classifiers which did not see them hold for wrong, each with an edit to
        the class they suggest, for a reviewer to accept; high from 3 % of the rows, else medium.
        ``disputed_preference`` (medium): pairs whose order the other pairs speak against; no edits.
        ``doubtful_label`` (low): labels that may as well be wrong, with edits that drop the rows.
        ``labels_not_verified``, ``preferences_not_verified`` (low): in their place beyond 50,000 rows.
        ``small_class`` (medium): under 5 training rows. ``imbalance`` (low): the largest class has
        at least ten times the rows of the median one.
    """
    found: list[Finding] = []
    if any(label is not None for label in columns.labels):
        found += _wrong_labels(columns, encoder)
        found += _class_sizes(columns)
    if any(text is not None for text in columns.rejected):
        found += _disputes(columns, encoder)
    return found


def _wrong_labels(columns: Columns, encoder: Encoder | None) -> Iterator[Finding]:
    rows = [(i, label) for i, label in enumerate(columns.labels) if label is not None]
    names = {label for _, label in rows}
    if not 2 <= len(names) <= _MOST_CLASSES:
        return
    if len(rows) > _MOST_ROWS:
        yield _unverified(columns, "labels", len(rows))
        return
    ranking = rank_suspects(
        [columns.prompts[i] for i, _ in rows], [label for _, label in rows], encoder=encoder
    )
    suspects = ranking.suspects[: ranking.likely]
    if ranking.doubtful:
        yield _doubtful(columns, [rows[s.row][0] for s in ranking.doubtful], ranking.doubtful, len(rows))
    if not suspects:
        return
    yield made(
        columns,
        Verdict(
            "label_error",
            "high" if len(suspects) >= _MANY_WRONG * len(rows) else "medium",
            f"{counted(len(suspects), 'row has', 'rows have')} a label that is probably wrong "
            f"({percent_of(len(suspects), len(rows))}).",
            "Review them, most suspect first, and accept or refuse the suggested label.",
        ),
        [
            Case(
                (rows[s.row][0],),
                columns.prompts[rows[s.row][0]],
                f"labelled {s.given}, looks like {s.suggested} (doubt {s.score:.2f})",
            )
            for s in suspects
        ],
        edits=[
            Edit(
                row=columns.ids[rows[s.row][0]],
                action="set_output",
                value=s.suggested,
                reason="label_error",
            )
            for s in suspects
        ],
        numbers={
            "confusions": [
                {"given": given, "suggested": suggested, "rows": count}
                for (given, suggested), count in Counter(
                    (s.given, s.suggested) for s in suspects
                ).most_common(20)
            ],
            "scores": {columns.ids[rows[s.row][0]]: round(s.score, 4) for s in suspects},
        },
    )


def _doubtful(columns: Columns, places: Sequence[int], doubts: Sequence[Suspect], judged: int) -> Finding:
    return made(
        columns,
        Verdict(
            "doubtful_label",
            "low",
            f"{counted(len(doubts), 'row has', 'rows have')} a label that may as well be wrong "
            f"({percent_of(len(doubts), judged)}).",
            "Review them where a person can tell; to train, a set is better off without them.",
        ),
        [
            Case((i,), columns.prompts[i], f"labelled {s.given}, perhaps {s.suggested} (doubt {s.score:.2f})")
            for i, s in zip(places, doubts, strict=True)
        ],
        edits=[Edit(row=columns.ids[i], action="drop", reason="doubtful_label") for i in places],
        numbers={"scores": {columns.ids[i]: round(s.score, 4) for i, s in zip(places, doubts, strict=True)}},
    )


def _unverified(columns: Columns, what: str, count: int) -> Finding:
    """Say that nobody looked, so that silence is not taken for praise."""
    verdict = Verdict(
        f"{what}_not_verified",
        "low",
        f"The {what} of {count:,} rows were not verified: classifiers look at up to {_MOST_ROWS:,} rows.",
        f"Inspect a part: data.sources[0].limit={_MOST_ROWS}.",
    )
    return made(columns, verdict, [], numbers={"rows": count})


def _class_sizes(columns: Columns) -> Iterator[Finding]:
    known = sorted({label for label in columns.labels if label is not None})
    training = [
        label
        for label, split in zip(columns.labels, columns.splits, strict=True)
        if label is not None and split == "train"
    ]
    sizes = dict.fromkeys(known, 0) | dict(Counter(training))
    small = {name: size for name, size in sizes.items() if size < _FEW_ROWS}
    if small:
        yield made(
            columns,
            Verdict(
                "small_class",
                "medium",
                f"{counted(len(small), 'class has', 'classes have')} under {_FEW_ROWS} training rows: "
                f"{listed_counts(small, 5)}.",
                "Add rows of these classes, or merge each with the class next to it.",
            ),
            _members(columns, sorted(small, key=lambda name: (small[name], name))),
            numbers={"rows": sizes},
        )
    ordered = sorted(sizes.values())
    middle = ordered[len(ordered) // 2]
    largest = max(known, key=lambda name: sizes[name])
    if middle and sizes[largest] >= _TIMES * middle:
        yield made(
            columns,
            Verdict(
                "imbalance",
                "low",
                f"Class {largest} has {sizes[largest]:,} training rows, the median class {middle:,}.",
                "Limit the large class (sources.limit_per_class) or add rows of the others, and judge by the "
                "macro average.",
            ),
            [],
            numbers={"rows": sizes},
        )


def _members(columns: Columns, names: Sequence[str]) -> list[Case]:
    cases = []
    for name in names:
        rows = tuple(i for i, label in enumerate(columns.labels) if label == name)
        cases.append(Case(rows, name, counted(len(rows), "row") + " in all splits"))
    return cases


def _disputes(columns: Columns, encoder: Encoder | None) -> Iterator[Finding]:
    pairs = [(i, text) for i, text in enumerate(columns.rejected) if text is not None]
    if len(pairs) > _MOST_ROWS:
        yield _unverified(columns, "preferences", len(pairs))
        return
    disputed = disputed_pairs(
        [columns.prompts[i] for i, _ in pairs],
        [columns.answers[i] for i, _ in pairs],
        [text for _, text in pairs],
        encoder=encoder,
    )
    if disputed:
        yield made(
            columns,
            Verdict(
                "disputed_preference",
                "medium",
                f"{counted(len(disputed), 'pair is', 'pairs are')} ordered against what the others prefer "
                f"({percent_of(len(disputed), len(pairs))}).",
                "Let a person look which answer is better, and swap or drop the pair.",
            ),
            [
                Case(
                    (pairs[d.row][0],),
                    f"preferred: {columns.answers[pairs[d.row][0]]:.90} | over: {pairs[d.row][1]:.90}",
                    f"reversed with probability {d.score:.2f}",
                )
                for d in disputed
            ],
            numbers={"scores": {columns.ids[pairs[d.row][0]]: round(d.score, 4) for d in disputed}},
        )
