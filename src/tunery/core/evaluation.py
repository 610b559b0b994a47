"""An evaluation: one run of the scorers over one split, and how two of them compare."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from tunery.core.config import Record
from tunery.core.prices import usd_of_time

Unit = Literal["share", "number", "ms", "tokens", "characters"]
"""What the values of a metric are; a share lies in [0, 1]."""
Verdict = Literal["better", "worse", "no difference shown"]
_EARLIER_TITLES = {"macro_f1": "macro F1", "valid_json": "valid JSON", "field_match": "fields right"}
"""Of metrics in records that were written before records held titles, where a title is not just the name."""


def earlier_unit(name: str) -> Unit:
    """Return what the values of a metric are of which nothing but the name is on record."""
    return "number" if name == "perplexity" else "share"


def metric_title(name: str) -> str:
    """Return how a reader says a metric of which nothing but the name is on record.

    >>> metric_title("exact_match"), metric_title("field_match.total_sum")
    ('exact match', 'fields right: total sum')
    """
    whole, _, part = name.partition(".")
    return title_of_part(_EARLIER_TITLES.get(whole, whole.replace("_", " ")), part)


def title_of_part(title: str, part: str) -> str:
    """Return the title of one part of what a metric titled ``title`` judges; an empty part is all of it."""
    return f"{title}: {part.replace('_', ' ')}" if part else title


def _is_none(value: object) -> bool:
    return value is None


class Metric(Record):
    """An aggregate with its uncertainty."""

    name: str
    """Such as ``exact_match``, ``macro_f1``, ``valid_json``, ``field_match``, ``perplexity``."""
    value: float
    n: int
    """Examples it was computed over [count]."""
    ci95: tuple[float, float]
    """95 % interval, low and high."""
    method: str
    """How the interval was made: ``wilson``, ``bootstrap``, ``t``, ``rogan_gladen``."""
    higher_is_better: bool = True
    title: str = Field(default_factory=lambda earlier: metric_title(earlier["name"]))
    """As a reader says it."""
    unit: Unit = Field(
        default_factory=lambda earlier: earlier_unit(earlier["name"]), exclude_if=lambda unit: unit == "share"
    )
    """What the value and its interval are."""


class Prediction(Record):
    """One completion beside its reference."""

    id: str
    """The example's id."""
    prediction: str
    reference: str
    correct: bool
    """By the recipe's main scorer."""
    scores: Mapping[str, float] = {}
    """Per-example value of every scorer."""
    finish_reason: str = "stop"
    cluster: str | None = Field(default=None, exclude_if=lambda cluster: cluster is None)
    """What the row shares with others that are right or wrong together; None where it stands alone."""
    shots: tuple[str, ...] = Field(default=(), exclude_if=lambda shots: not shots)
    """Ids of the solved examples shown before it, where they were chosen for it; the nearest last."""
    reason: str | None = Field(default=None, exclude_if=_is_none)
    """Why there is no answer, where ``finish_reason`` is ``error``."""


class Comparison(Record):
    """Whether B differs from A on the same examples; positive differences mean B is better."""

    a: str
    b: str
    metric: str
    n: int
    """Examples found in both [count]."""
    fixed: int
    """Wrong in A, right in B [count]."""
    broken: int
    """Right in A, wrong in B [count]."""
    p_value: float
    """Two-sided."""
    difference: float
    """Metric of B minus metric of A, on the shared examples."""
    ci95: tuple[float, float]
    test: str
    """``mcnemar_exact`` or ``randomization``; of two samples ``fisher_exact``; ``paired_bootstrap`` in
    earlier records."""
    verdict: Verdict
    """``better`` or ``worse`` only when the p-value is under 0.05."""
    fixed_ids: tuple[str, ...] = ()
    """First 20."""
    broken_ids: tuple[str, ...] = ()
    """First 20."""
    value_a: float | None = None
    """Metric of A on the shared examples."""
    value_b: float | None = None
    """Metric of B on the shared examples."""
    clusters: int | None = None
    """Groups that the examples come in, where some share one [count]."""
    only_a: int = 0
    """Examples of A left out because B has no such answer [count]."""
    only_b: int = 0
    """Examples of B left out because A has no such answer [count]."""
    metric_title: str = Field(default_factory=lambda earlier: metric_title(earlier["metric"]))
    """The metric as a reader says it."""
    unit: Unit = Field(
        default_factory=lambda earlier: earlier_unit(earlier["metric"]),
        exclude_if=lambda unit: unit == "share",
    )
    """What the metric's values are."""


class Contamination(Record):
    """Rows of an evaluation that a model had seen before: on those it shows memory, not skill."""

    subject: str
    """Whose answers."""
    where: str
    """Where the rows stand as well, such as ``the train split of ds-…``."""
    rows: int
    """That were evaluated [count]."""
    exact: int
    """Whose prompt stands there [count]."""
    near: int
    """Whose prompt is nearly one that stands there, with the same numbers and signs [count]."""
    ids: tuple[str, ...]
    """Of these rows, the first 20."""
    metric: Metric | None
    """The main metric over all rows; None where the subject has none."""
    without: Metric | None
    """Over the other rows; None where there are none, or too few."""


class Slice(Record):
    """The main metric on some of the rows, for the tuned model and against another."""

    column: str
    """What the rows share: a metadata column, ``label``, ``turns`` or ``length``."""
    value: str
    """Its value."""
    metric: Metric
    """Of the tuned model."""
    against: str
    """The subject that it is compared with."""
    difference: float
    """Tuned model minus the other on these rows; positive is better."""
    ci95: tuple[float, float]
    p_value: float
    """Two-sided, after Holm's correction over all slices."""
    verdict: Verdict
    """``better`` or ``worse`` only when the corrected p-value is under 0.05."""


class CheckpointScore(Record):
    """The main metric of a checkpoint's answers to the validation split, beside those of the model made."""

    step: int
    chosen: bool
    """Whether these are the weights of the model."""
    evaluation: str
    """Id of the evaluation."""
    metric: Metric
    difference: float
    """Checkpoint minus model on the validation rows; positive is better."""
    ci95: tuple[float, float]
    p_value: float
    """Two-sided, after Holm's correction over all checkpoints."""
    verdict: Verdict
    """``better`` or ``worse`` only when the corrected p-value is under 0.05."""


class ClassScore(Record):
    """One row of the per-class table."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


class Confusion(Record):
    """How often one class was answered as another."""

    reference: str
    prediction: str
    count: int


class CoveragePoint(Record):
    """What is wrong among the answers that a model is surest of."""

    coverage: float
    """Share of the rows, surest first."""
    error: float
    """Share of wrong answers among them."""


class Calibration(Record):
    """How far a model's confidence orders its answers, and where it may be trusted."""

    aurc: float
    """Area under the risk-coverage curve: mean error over all coverages; lower is better."""
    curve: tuple[CoveragePoint, ...]
    max_error: float
    """Share of wrong answers that was to be held."""
    threshold: float | None
    """Confidence from which on it is held, chosen on one half of the rows; None where none does."""
    checked: int
    """Rows of the other half from that confidence on [count]."""
    checked_wrong: int
    """Wrong answers among these [count]."""


class Evaluation(Record):
    """One subject scored on one set of examples."""

    id: str
    """``eval-`` and 16 hex digits."""
    subject: str
    """What was evaluated: ``zero_shot``, ``few_shot``, ``zero_shot_constrained``, ``tuned``, ``name@3``."""
    base: str
    """Base model's name and hash, ``name@sha256:…``."""
    adapter: str | None
    """Adapter id, None for the base alone."""
    data: str
    """Dataset version id and split (``ds-…/test``) or a file's checksum."""
    main_metric: str
    metrics: Mapping[str, Metric]
    per_class: tuple[ClassScore, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    """Worst first, at most 20."""
    config: Mapping[str, Any]
    """Evaluation settings, prompt included."""
    created_at: datetime
    seconds: float
    """Wall time [s]."""
    tokens: int = 0
    """Prompt and completion tokens processed [count]."""
    calibration: Calibration | None = Field(default=None, exclude_if=lambda found: found is None)
    """Where confidence was measured."""
    warnings: tuple[str, ...] = ()
    """What a person should know: answers cut off at ``max_new_tokens``, a perplexity that is no number."""
    arm: str | None = Field(default=None, exclude_if=_is_none)
    """What answered where it was neither the base nor an adapter on it: ``tfidf``, ``endpoint``,
    ``answers``."""
    prompt_tokens: int | None = Field(default=None, exclude_if=_is_none)
    """Of all prompts [count]; None where they are not known."""
    completion_tokens: int | None = Field(default=None, exclude_if=_is_none)
    """Of all answers [count]; None where they are not known."""
    latency_p50_ms: float | None = Field(default=None, exclude_if=_is_none)
    """From a question to the end of its answer, at the pace of the evaluation: batched on an engine."""
    latency_p95_ms: float | None = Field(default=None, exclude_if=_is_none)
    answering_s: float | None = Field(default=None, exclude_if=_is_none)
    """Wall time of the answers alone, likelihoods and scoring left out [s]."""
    sample_prompt: str | None = Field(default=None, exclude_if=_is_none)
    """What was asked for the first row, turn by turn, before the chat template."""
    usd: float | None = Field(default=None, exclude_if=_is_none)
    """What an endpoint took for the answers [US dollars]."""

    def usd_per_1k(self, price_per_hour: float | None) -> float | None:
        """Return what 1,000 requests cost: what the endpoint took, else the time of own hardware.

        Args:
            price_per_hour: Of the hardware that answered [US dollars]; None where nobody said.
        """
        rows = self.main.n if self.main_metric in self.metrics else 0
        if not rows or self.arm == "answers":
            return None
        if self.usd is not None:
            return self.usd / rows * 1000
        if price_per_hour is None or self.answering_s is None:
            return None
        return usd_of_time(self.answering_s / rows * 1000, price_per_hour)

    @property
    def main_numbers(self) -> dict[str, Any]:
        """The main metric's numbers, as programs read them."""
        main = self.main
        return {"metric": main.name, "value": main.value, "n": main.n, "ci95": list(main.ci95)}

    @property
    def main(self) -> Metric:
        """The metric that the recipe's goal names."""
        return self.metrics[self.main_metric]


class RuleOutcome(Record):
    """One gate rule, judged."""

    rule: Mapping[str, Any]
    """The rule as written."""
    passed: bool
    observed: float | None
    required: float | None
    sentence: str
    """The numbers in one sentence."""
    ci95: tuple[float, float] | None = None
    """95 % interval of what was observed; None where it has none."""
    p_value: float | None = None
    """Of a rule that asks for something to be shown, after Holm's correction; None for other rules."""
    written: str = ""
    """The rule as a sentence of the recipe's language; empty in earlier records."""
    change: str | None = None
    """What would make a rule hold that does not."""


class GateResult(Record):
    """The gate's verdict, with each rule's."""

    id: str
    passed: bool
    rules: tuple[RuleOutcome, ...]
    created_at: datetime
    alpha: float = 0.05
    """Chance of passing rules that ask for something to be shown where there is nothing, over all of them."""
    verdict: str = ""
    """All of it in one sentence; empty in earlier records."""
    caveats: tuple[str, ...] = ()
    """What a person should know although every rule may hold: a gain that is not shown, a loss elsewhere."""
