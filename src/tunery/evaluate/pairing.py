"""Which rows two sets of predictions share, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunery.core.errors import ConfigError, listed
from tunery.core.evaluation import Prediction
from tunery.evaluate.predictions import PredictionRow
from tunery.text.answer import same_text

_PROBLEMS_SHOWN = 20
Row = Prediction | PredictionRow
"""An answer of ours, or one from a file of any source."""


class Paired(NamedTuple):
    """Rows that A and B share."""

    pairs: list[tuple[Row, Row]]
    only_a: int
    """Rows of A that B lacks [count]."""
    only_b: int
    """Rows of B that A lacks [count]."""
    names: tuple[str, str]
    """What A and B are called in messages."""

    def having(self, *scores: str) -> Paired:
        """Keep the rows for which both sides have these scores.

        Raises:
            ConfigError: There is none.
        """
        kept = [(x, y) for x, y in self.pairs if all(s in x.scores and s in y.scores for s in scores)]
        if not kept:
            raise ConfigError(f"{' and '.join(self.names)} share no row with a score of {scores[0]!r}")
        lost = len(self.pairs) - len(kept)
        return self._replace(pairs=kept, only_a=self.only_a + lost, only_b=self.only_b + lost)

    @property
    def clusters(self) -> list[str]:
        """What each row is drawn with: its cluster, else its own id."""
        return [x.cluster or y.cluster or f"row {x.id}" for x, y in self.pairs]

    @property
    def are_unjudged(self) -> bool:
        """Whether no row of either side says what is right, in a word or by its texts."""
        rows = [row for pair in self.pairs for row in pair]
        return all(row.correct is None and (row.prediction is None or row.reference is None) for row in rows)

    def correct(self) -> list[tuple[bool, bool]]:
        """Return whether A and B are right on each row, both judged by one rule.

        Raises:
            ConfigError: A row can be judged on one side only.
        """
        judged, problems = [], []
        for x, y in self.pairs:
            if x.correct is not None and y.correct is not None:
                judged.append((x.correct, y.correct))
            elif x.prediction is None or y.prediction is None or (x.reference or y.reference) is None:
                problems.append(f"id {x.id!r:.80}: has 'correct' in one file and no texts to judge by")
            else:
                reference = x.reference if x.reference is not None else str(y.reference)
                judged.append((same_text(x.prediction, reference), same_text(y.prediction, reference)))
        if problems:
            scores = sorted(set.intersection(*({*row.scores} for pair in self.pairs for row in pair)))
            raise ConfigError.of_problems(
                " and ".join(self.names),
                problems,
                limit=_PROBLEMS_SHOWN,
                hint=f"--metric NAME: both files have {listed(scores, 10)}" if scores else None,
            )
        return judged


def pair_rows(a: Sequence[Row], b: Sequence[Row], names: tuple[str, str]) -> Paired:
    """Match rows by id, in A's order.

    Raises:
        ConfigError: An id repeats, none is shared, or references or questions of one id differ.
    """
    first, second = _by_id(a, names[0]), _by_id(b, names[1])
    shared = [(row, second[key]) for key, row in first.items() if key in second]
    if not shared:
        raise ConfigError(
            f"{names[0]} ({len(first)} rows) and {names[1]} ({len(second)} rows) share no id: "
            f"{listed(list(first), 2)} against {listed(list(second), 2)}",
            hint="predict both on the same test file",
        )
    differing = [
        f"id {x.id!r:.80}: reference {x.reference!r:.60} in {names[0]}, {y.reference!r:.60} in {names[1]}"
        for x, y in shared
        if x.reference is not None and y.reference is not None and x.reference != y.reference
    ]
    differing += [
        f"id {x.id!r:.80}: {names[0]} and {names[1]} do not answer the same question"
        for x, y in shared
        if isinstance(x, PredictionRow) and isinstance(y, PredictionRow)
        if x.asked is not None and y.asked is not None
        # Kinds of files write one question each in its own way; the kind stands before the hash.
        if x.asked.split()[0] == y.asked.split()[0] and x.asked != y.asked
    ]
    if differing:
        raise ConfigError.of_problems(
            "the files disagree about what is right", differing, limit=_PROBLEMS_SHOWN
        )
    return Paired(shared, len(first) - len(shared), len(second) - len(shared), names)


def _by_id(rows: Sequence[Row], name: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        if row.id in found:
            raise ConfigError(f"{name}: id {row.id!r:.80} is given twice")
        found[row.id] = row
    return found
