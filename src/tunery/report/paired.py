"""The same rows answered twice: what tuning fixed, what it broke, and whether that could be luck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunery.core.evaluation import CheckpointScore, Comparison, Prediction, Slice
from tunery.core.example import Example, Message, without_system
from tunery.core.figures import (
    change,
    change_interval,
    count,
    counted,
    is_rate,
    metric_interval,
    metric_value,
    p_value,
    subject_order,
    subject_phrase,
)
from tunery.report.inputs import ReportInputs

_TESTS = {
    "mcnemar_exact": "exact McNemar test",
    "fisher_exact": "Fisher's exact test",
    "randomization": "randomization test",
    "paired_bootstrap": "paired bootstrap",
}


class PairedComparison(NamedTuple):
    """One comparison in words a manager reads."""

    subject: str
    comparison: Comparison
    gain: str
    interval: str
    test: str
    what: str
    """What happened."""
    luck: str
    """How far luck explains it."""


class PartRow(NamedTuple):
    """The main metric of one of several, as it stands in a table."""

    what: str
    value: str
    interval: str
    n: int
    gain: str
    gain_interval: str
    p_value: str
    verdict: str


def slice_rows(slices: Sequence[Slice]) -> list[PartRow]:
    """Write the tuned model's figures on parts of the rows, and against the best baseline there."""
    return [_part(f"{part.column}: {part.value}", part) for part in slices]


def checkpoint_rows(scores: Sequence[CheckpointScore]) -> list[PartRow]:
    """Write what each kept checkpoint answers, and how that differs from the model that was made."""
    return [_part(f"{one.step}{', the model' if one.chosen else ''}", one) for one in scores]


def _part(what: str, found: Slice | CheckpointScore) -> PartRow:
    share = is_rate(found.metric)
    return PartRow(
        what,
        metric_value(found.metric),
        metric_interval(found.metric),
        found.metric.n,
        change(found.difference, share=share),
        change_interval(*found.ci95, share=share),
        p_value(found.p_value),
        found.verdict,
    )


class ExampleCard(NamedTuple):
    """One example with both answers."""

    where: str
    turns: Sequence[Message]
    reference: str
    before: str | None
    after: str | None


class ChangedExamples(NamedTuple):
    """Examples that changed hands."""

    subject: str
    comparison: Comparison
    fixed: Sequence[ExampleCard]
    broken: Sequence[ExampleCard]


def pairs_of(inputs: ReportInputs) -> list[PairedComparison]:
    """Return every comparison, the one with the best prompting first."""
    subjects = sorted(inputs.comparisons, key=lambda s: (s != inputs.main_comparison, subject_order(s)))
    return [_pair(subject, inputs.comparisons[subject], inputs) for subject in subjects]


def _pair(subject: str, comparison: Comparison, inputs: ReportInputs) -> PairedComparison:
    metric = inputs.tuned.metrics.get(comparison.metric) if inputs.tuned else None
    share = metric is None or is_rate(metric)
    gain = change(comparison.difference, share=share)
    interval = change_interval(*comparison.ci95, share=share)
    what = (
        f"On the same {counted(comparison.n, 'test row')}, tuning fixed "
        f"{counted(comparison.fixed, 'answer')} that {subject_phrase(subject)} got wrong and broke "
        f"{count(comparison.broken)} that it got right: {gain} {comparison.metric_title} "
        f"(95 % interval {interval})."
    )
    test = _TESTS.get(comparison.test, comparison.test.replace("_", " "))
    return PairedComparison(subject, comparison, gain, interval, test, what, luck_in_words(comparison))


def luck_in_words(comparison: Comparison) -> str:
    """Say what the p-value means to someone who never met one."""
    p = comparison.p_value
    if comparison.fixed == comparison.broken == 0 and comparison.test == "mcnemar_exact":
        return "They were right and wrong on exactly the same rows, so this test shows no difference."
    opening = "If the two were equally good, a difference at least this large would come up"
    written = p_value(p)
    if p < 0.001:
        return f"{opening} less than once in 1,000 such tests ({written}); luck does not explain it."
    if p < 0.05:
        times = counted(max(1, round(p * 1000)), "time")
        return f"{opening} about {times} in 1,000 such tests ({written}); luck is an unlikely explanation."
    times = counted(round(p * 100), "time")
    return f"{opening} about {times} in 100 such tests ({written}); this test cannot tell them apart."


def cards_of(inputs: ReportInputs) -> ChangedExamples | None:
    """Return the examples that tuning fixed and broke against the best prompting; None without any."""
    subject = inputs.main_comparison
    if subject is None:
        return None
    comparison = inputs.comparisons[subject]
    before = {p.id: p for p in inputs.predictions.get(subject, ())}
    after = {p.id: p for p in inputs.predictions.get("tuned", ())}

    def cards_of_ids(ids: tuple[str, ...]) -> list[ExampleCard]:
        cards = (_card(inputs.examples.get(i), before.get(i), after.get(i)) for i in ids[:20])
        return [card for card in cards if card is not None]

    fixed, broken = cards_of_ids(comparison.fixed_ids), cards_of_ids(comparison.broken_ids)
    return ChangedExamples(subject, comparison, fixed, broken) if fixed or broken else None


def _card(example: Example | None, before: Prediction | None, after: Prediction | None) -> ExampleCard | None:
    known = after or before or example
    if known is None:
        return None
    return ExampleCard(
        _where(example) or known.id,
        # The system turn is the same for all and shown once, in the lineage.
        without_system(example.prompt) if example else (),
        known.reference,
        before.prediction if before else None,
        after.prediction if after else None,
    )


def _where(example: Example | None) -> str | None:
    if example is None or "source" not in example.metadata:
        return None
    row = example.metadata.get("row")
    return f"{example.metadata['source']}" + (f", row {row}" if row is not None else "")
