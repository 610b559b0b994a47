"""Two systems compared by a judge, pair by pair and in both orders, and their win rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from tunery.core.config import Record
from tunery.core.evaluation import Metric, Verdict
from tunery.core.example import Message
from tunery.core.figures import counted, metric_interval, metric_value, subject_phrase
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.judging import NoAnswer
from tunery.evaluate.judges.judge import EndpointJudge, judge_key
from tunery.evaluate.judges.prompts import pair_form, pair_turns, read_better
from tunery.evaluate.metrics import WIN_RATE, mean_metric
from tunery.statistics.prediction_powered import Corrected, corrected_mean

Winner = Literal["a", "b", "tie"]
_VALUE: Mapping[Winner, float] = {"a": 0.0, "b": 1.0, "tie": 0.5}
_OTHER: Mapping[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}
_FEWEST_LABELS = 2
"""Independent rows with people's labels that a correction needs [count]."""


class Pair(NamedTuple):
    """Two answers to one conversation."""

    id: str
    prompt: tuple[Message, ...]
    a: str
    b: str
    reference: str | None = None
    cluster: str | None = None

    @property
    def content(self) -> tuple[str, bool]:
        """What tells the pair from others whichever answer is called A, and whether the two are swapped."""
        prompt = [[turn.role, turn.content] for turn in self.prompt]
        return sha256_text(canonical_json([prompt, sorted([self.a, self.b])])), self.b < self.a


class PairVerdict(NamedTuple):
    """What the judge said of one pair, seen in both orders."""

    winner: Winner
    """``tie`` also where the two orders contradict each other, and where there is no verdict."""
    consistent: bool
    first: int
    """How often whichever answer stood first was preferred [count, 0 to 2]."""
    error: str | None
    """Why there is no verdict."""


class JudgedComparison(Record):
    """Whether B is better than A, as a judge sees it."""

    a: str
    b: str
    judge: str
    """Hash of model, endpoint, rubric and prompt."""
    model: str
    n: int
    wins_a: int
    wins_b: int
    ties: int
    """Pairs without a winner, the contradictory ones and the errors among them [count]."""
    errors: int
    """Pairs that the judge gave no readable verdict on; they are ties too [count]."""
    win_rate: Metric
    """Share of pairs that B wins, a tie as half of one, by the judge alone."""
    position_bias: Metric
    """Share of pairs on which the verdict turns with the order."""
    prefers_first: float | None
    """Of the verdicts that turn, the share in which the first answer was preferred; 0.5 for no such habit."""
    corrected: Corrected | None
    """None where people judged none of these pairs."""
    kappa: float | None = None
    """Agreement of this judge with people, where it was measured."""
    kappa_ci95: tuple[float, float] | None = None
    verdict: Verdict
    """By the corrected win rate's interval, by the raw one's where there is no other."""

    @property
    def metric(self) -> Metric:
        """The win rate that counts: the corrected one where there is one."""
        if self.corrected is None:
            return self.win_rate
        found = self.corrected
        return self.win_rate.with_(value=found.value, ci95=found.ci95, method="prediction_powered")

    @property
    def sentence(self) -> str:
        """What was found, for a person."""
        corrected = "corrected by" if self.corrected else "not corrected by any"
        a, b = subject_phrase(self.a), subject_phrase(self.b)
        return (
            f"{self.model} prefers the answers of {b} to those of {a} "
            f"on {metric_value(self.metric)} of {counted(self.n, 'row')} (95 % interval "
            f"{metric_interval(self.metric)}, {corrected} labels of people); "
            f"{metric_value(self.position_bias)} of its verdicts turn with the order."
        )


def judge_pairs(judge: EndpointJudge, pairs: Sequence[Pair]) -> list[PairVerdict]:
    """Have every pair judged in both orders.

    A model that prefers whatever stands first, or second, contradicts itself once the order is turned, and
    then has preferred neither.

    Raises:
        TuneryError: As :meth:`EndpointJudge.ask` says.

    Source:
        Zheng et al. (2023), Judging LLM-as-a-Judge, arXiv 2306.05685, sections 3.3 and 3.4.
    """
    asked = [
        [
            pair_turns(judge.config, pair.prompt, answers, reference=pair.reference)
            for answers in ((pair.a, pair.b), (pair.b, pair.a))
        ]
        for pair in pairs
    ]
    judge.ask([turns for both in asked for turns in both], pair_form())
    return [_verdict(judge, *both) for both in asked]


def _verdict(judge: EndpointJudge, forward: Sequence[Message], back: Sequence[Message]) -> PairVerdict:
    try:
        said = read_better(judge(forward)), read_better(judge(back))
    except NoAnswer as failure:
        return PairVerdict("tie", consistent=True, first=0, error=str(failure))
    first = said.count("first")
    there: Winner = {"first": "a", "second": "b"}.get(said[0] or "", "tie")  # type: ignore[assignment]
    turned: Winner = {"first": "b", "second": "a"}.get(said[1] or "", "tie")  # type: ignore[assignment]
    same = there == turned
    return PairVerdict(there if same else "tie", same, first, None)


def position_bias(verdicts: Sequence[PairVerdict], clusters: Sequence[str]) -> Metric:
    """Return the share of pairs on which the verdict turns with the order."""
    turning = [float(not verdict.consistent) for verdict in verdicts]
    return mean_metric("judge_position_bias", turning, clusters=clusters).with_(higher_is_better=False)


def compare_by_judge(
    judge: EndpointJudge,
    pairs: Sequence[Pair],
    names: tuple[str, str],
    *,
    labels: Mapping[str, Winner] | None = None,
) -> JudgedComparison:
    """Compare two systems by a judge, corrected by people's labels of some of the same pairs.

    Args:
        judge: Who judges.
        pairs: At least one, their A and B each by one system.
        names: What A and B are called.
        labels: Content of a pair to what people preferred, its answers in alphabetical order called A and B.

    Raises:
        TuneryError: As :meth:`EndpointJudge.ask` says.
    """
    verdicts = judge_pairs(judge, pairs)
    clusters = [pair.cluster or pair.id for pair in pairs]
    values = [_VALUE[verdict.winner] for verdict in verdicts]
    firsts = [verdict.first for verdict in verdicts if not verdict.consistent]
    rate = mean_metric(WIN_RATE, values, clusters=clusters)
    corrected = _corrected(pairs, values, labels or {})
    low, high = corrected.ci95 if corrected is not None else rate.ci95
    winners = [verdict.winner for verdict in verdicts]
    return JudgedComparison(
        a=names[0],
        b=names[1],
        judge=judge_key(judge.config, "pairwise"),
        model=judge.config.model,
        n=len(pairs),
        wins_a=winners.count("a"),
        wins_b=winners.count("b"),
        ties=winners.count("tie"),
        errors=sum(verdict.error is not None for verdict in verdicts),
        win_rate=rate,
        position_bias=position_bias(verdicts, clusters),
        prefers_first=sum(firsts) / (2 * len(firsts)) if firsts else None,
        corrected=corrected,
        verdict="better" if low > 0.5 else "worse" if high < 0.5 else "no difference shown",
    )


def _corrected(
    pairs: Sequence[Pair], values: Sequence[float], labels: Mapping[str, Winner]
) -> Corrected | None:
    human: list[float] = []
    labelled: list[int] = []
    for place, pair in enumerate(pairs):
        content, swapped = pair.content
        if content in labels:
            said = labels[content]
            labelled.append(place)
            human.append(_VALUE[_OTHER[said] if swapped else said])
    clusters = [pair.cluster or pair.id for pair in pairs]
    if len({clusters[i] for i in labelled}) < _FEWEST_LABELS:
        return None
    others = sorted(set(range(len(pairs))) - set(labelled))
    return corrected_mean(
        human,
        [values[i] for i in labelled],
        [values[i] for i in others],
        clusters=[clusters[i] for i in labelled],
        clusters_only=[clusters[i] for i in others],
    )


def label_of(pair: Pair, preferred: Winner) -> tuple[str, Winner]:
    """Return a pair's content and what people preferred, as :func:`compare_by_judge` takes labels."""
    content, swapped = pair.content
    return content, _OTHER[preferred] if swapped else preferred
