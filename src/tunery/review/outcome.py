"""What people thought: ratings of each system, how far the people agree, and where they do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median

from tunery.core.config import Record
from tunery.core.errors import ConfigError
from tunery.core.evaluation import Metric
from tunery.core.ids import artifact_id, canonical_json, sha256_text
from tunery.evaluate.metrics import mean_metric
from tunery.review.cards import Card, Judgement, ReviewPlan
from tunery.review.check import LabelledPair
from tunery.review.config import HIGHEST, LOWEST, WIN_RATE
from tunery.review.pairwise import Pair, Winner
from tunery.statistics.agreement import Agreement, krippendorff_alpha

_PLACES = {"1": 1, "tie": 2, "2": 3}
"""Of what may be preferred, on the scale from the first answer to the second."""


class HumanReview(Record):
    """What people thought of the answers of some systems."""

    id: str
    """``review-`` and 16 hex digits."""
    plan: str
    """The review that they did."""
    systems: Mapping[str, str | None]
    """Name of each system to its evaluation's id."""
    reviewers: int
    """People who saw every answer [count]."""
    cards: int
    """Answers, or pairs of them, that were judged [count]."""
    metrics: Mapping[str, Mapping[str, Metric]]
    """System to criterion to its mean rating; of pairs ``win_rate``, a tie as half a win."""
    agreement: Mapping[str, Agreement]
    """Criterion to how far those who saw every answer agree; one on which nothing can be said is left out."""
    disagreements: tuple[str, ...]
    """Cards on which they are apart and no third person has looked."""
    created_at: datetime


def conclude(plan: ReviewPlan, judgements: Sequence[Judgement], *, now: datetime) -> HumanReview:
    """Return what people thought.

    An answer's rating is the median of all who judged it, so that a third person decides where two are apart.
    Agreement is that of those who saw every answer: the third saw only what others disagreed on.

    Raises:
        ConfigError: Nobody judged anything.
    """
    if not judgements:
        raise ConfigError("nobody has judged anything yet")
    cards = {card.id: card for card in plan.cards}
    names = (WIN_RATE,) if plan.config.pairwise else tuple(plan.config.criteria)
    given: dict[str, dict[str, list[int]]] = {name: defaultdict(list) for name in names}
    of_all: dict[str, dict[str, list[int]]] = {name: defaultdict(list) for name in names}
    for one in judgements:
        for name, score in _scores(one, cards[one.card], plan).items():
            of_all[name][one.card].append(score)
            if one.reviewer <= plan.config.reviewers:
                given[name][one.card].append(score)
    metrics = _metrics(plan, cards, of_all)
    said = [[j.reviewer, j.card, dict(j.scores), j.preferred] for j in judgements]
    inputs = {"plan": plan.id, "said": sha256_text(canonical_json(said))}
    return HumanReview(
        id=artifact_id("review", stage="review_outcome", version=1, config={}, inputs=inputs),
        plan=plan.id,
        systems=plan.systems,
        reviewers=plan.config.reviewers,
        cards=len({one.card for one in judgements}),
        metrics=metrics,
        agreement=_agreement(plan, cards, given),
        disagreements=disagreements(plan, judgements),
        created_at=now,
    )


def disagreements(plan: ReviewPlan, judgements: Sequence[Judgement]) -> tuple[str, ...]:
    """Return the cards on which people are apart and no third person has looked, in the plan's order."""
    apart = 1 if plan.config.pairwise else plan.config.apart
    cards = {card.id: card for card in plan.cards}
    by_card: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        by_card[one.card].append(one)
    found = []
    for card in plan.cards:
        said = by_card[card.id]
        every = [_scores(one, cards[one.card], plan) for one in said]
        reached = any(
            max(s[name] for s in every) - min(s[name] for s in every) >= apart for name in (every or [{}])[0]
        )
        if reached and all(one.reviewer <= plan.config.reviewers for one in said):
            found.append(card.id)
    return tuple(found)


def labels_of_review(plan: ReviewPlan, judgements: Sequence[Judgement]) -> dict[str, LabelledPair]:
    """Return each pair's card with what people preferred, as checks and corrections of judges take it."""
    if not plan.config.pairwise:
        return {}
    said: dict[str, list[int]] = defaultdict(list)
    for one in judgements:
        said[one.card].append(_PLACES[one.preferred or "tie"])
    found = {}
    for card in plan.cards:
        if card.id in said:
            middle = median(said[card.id])
            winner: Winner = "a" if middle < 2 else "b" if middle > 2 else "tie"
            first, second = card.answers
            pair = Pair(card.row, card.prompt, first, second, cluster=card.cluster)
            found[card.id] = LabelledPair(pair, winner)
    return found


def _scores(one: Judgement, card: Card, plan: ReviewPlan) -> Mapping[str, int]:
    """Return the scores of a card; of a pair how far it leans to the plan's second system, 1 to 3."""
    if not plan.config.pairwise:
        return one.scores
    place = _PLACES[one.preferred or "tie"]
    turned = card.systems != tuple(plan.systems)
    return {WIN_RATE: 4 - place if turned else place}


def _agreement(
    plan: ReviewPlan, cards: Mapping[str, Card], given: Mapping[str, Mapping[str, list[int]]]
) -> dict[str, Agreement]:
    scale = (1, 3) if plan.config.pairwise else (LOWEST, HIGHEST)
    found = {}
    for name, by_card in given.items():
        clusters = [cards[card].cluster or cards[card].row for card in by_card]
        alpha = krippendorff_alpha(list(by_card.values()), scale, clusters=clusters)
        if alpha is not None:
            found[name] = alpha
    return found


def _metrics(
    plan: ReviewPlan, cards: Mapping[str, Card], given: Mapping[str, Mapping[str, list[int]]]
) -> dict[str, dict[str, Metric]]:
    low, high = (1, 3) if plan.config.pairwise else (LOWEST, HIGHEST)
    found: dict[str, dict[str, Metric]] = {}
    for place, system in enumerate(plan.systems):
        for name, by_card in given.items():
            own = [card for card in by_card if system in cards[card].systems]
            if not own:
                continue
            shares = [(median(by_card[card]) - low) / (high - low) for card in own]
            shares = [1 - x for x in shares] if plan.config.pairwise and place == 0 else shares
            clusters = [cards[card].cluster or cards[card].row for card in own]
            mean = mean_metric(f"human.{name}", shares, clusters=clusters, seed=plan.config.seed)
            found.setdefault(system, {})[name] = mean if plan.config.pairwise else _on_scale(mean)
    return found


def _on_scale(mean: Metric) -> Metric:
    """Return a mean of shares on the scale of the ratings."""
    low, high = (LOWEST + end * (HIGHEST - LOWEST) for end in mean.ci95)
    return mean.with_(value=LOWEST + mean.value * (HIGHEST - LOWEST), ci95=(low, high))
