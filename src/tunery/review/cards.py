"""Scorecards: what people are shown, in which order, and what they said of it; whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError, listed
from tunery.core.example import Message
from tunery.core.ids import artifact_id, sampling_key
from tunery.evaluate.pairing import Row, pair_rows
from tunery.review.config import ReviewConfig

Choice = Literal["1", "2", "tie"]
_SHOWN = 5


class Card(Record):
    """One answer, or two side by side, that people are to judge."""

    id: str
    """Says nothing of the system."""
    row: str
    """Id of the row that was answered."""
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    """As they are shown."""
    systems: tuple[str, ...]
    """Whose they are, in the same order; never shown."""
    cluster: str | None = None


class ReviewPlan(Record):
    """A review that people are to do; what it holds is kept from them."""

    id: str
    """``review-`` and 16 hex digits."""
    config: ReviewConfig
    systems: Mapping[str, str | None]
    """Name of each system to its evaluation's id, None for one that a file names."""
    cards: tuple[Card, ...]

    def order(self, reviewer: int) -> list[Card]:
        """Return the cards as one person sees them: systems mixed, another order for everybody."""
        seed = self.config.seed
        return sorted(self.cards, key=lambda card: sampling_key(seed, self.id, reviewer, card.id))


class Judgement(NamedTuple):
    """What one person said of one card."""

    reviewer: int
    """Counted from 1; beyond the number of reviewers, one who looks at disagreements."""
    card: str
    scores: Mapping[str, int]
    """Criterion to a score; empty for pairs."""
    preferred: Choice | None
    """Of a pair, which of the answers as shown."""
    comment: str = ""
    correction: str = ""
    """What the answer should have been, where the person wrote that."""


def plan_review(
    answers: Mapping[str, Sequence[Row]],
    prompts: Mapping[str, tuple[Message, ...]],
    config: ReviewConfig,
    *,
    evaluations: Mapping[str, str | None] | None = None,
) -> ReviewPlan:
    """Choose rows that all systems answered, and lay out what people are to judge.

    Args:
        answers: Name of each system to its answers.
        prompts: Row id to what was asked.
        config: What is asked of people.
        evaluations: Name of a system to the evaluation its answers come from.

    Raises:
        ConfigError: The systems share no row, a row lacks its question, or pairs are not of two.
    """
    names = list(answers)
    if config.pairwise and len(names) != 2:
        raise ConfigError(f"pairs are of two systems, and there are {len(names)}: {listed(names, _SHOWN)}")
    shared = [row.id for row in answers[names[0]]]
    for name in names[1:]:  # says what is wrong with files that do not fit together
        both = {x.id for x, _ in pair_rows(answers[names[0]], answers[name], (names[0], name)).pairs}
        shared = [row for row in shared if row in both]
    unknown = [row for row in shared if row not in prompts]
    if unknown:
        raise ConfigError(
            f"no file says what was asked in {len(unknown)} rows: {listed(unknown, _SHOWN)}",
            hint='write the question into the file, as "prompt" or "messages"',
        )
    drawn = sorted(shared, key=lambda row: sampling_key(config.seed, "rows", row))[: config.limit]
    of_system = {name: {row.id: row for row in rows} for name, rows in answers.items()}
    cards = [
        _card(row, group, of_system, prompts[row], config.seed)
        for row in drawn
        for group in ([tuple(names)] if config.pairwise else [(name,) for name in names])
    ]
    systems = {name: (evaluations or {}).get(name) for name in names}
    shown = {"cards": [card.model_dump(mode="json") for card in cards], "systems": systems}
    about = {**config.model_dump(mode="json"), **shown}
    identity = artifact_id("review", stage="review", version=1, config=about, inputs={})
    return ReviewPlan(id=identity, config=config, systems=systems, cards=tuple(cards))


def _card(
    row: str,
    systems: tuple[str, ...],
    answers: Mapping[str, Mapping[str, Row]],
    prompt: tuple[Message, ...],
    seed: int,
) -> Card:
    shown = sorted(systems, key=lambda name: sampling_key(seed, "side", row, name))
    first = answers[shown[0]][row]
    return Card(
        id="c" + sampling_key(seed, "card", row, *systems)[:10],  # digits alone would become a number
        row=row,
        prompt=prompt,
        answers=tuple(answers[name][row].prediction or "" for name in shown),
        systems=tuple(shown),
        cluster=first.cluster,
    )
