"""Settings of the goal, of evaluation and of the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from tunery.core.config import Settings
from tunery.core.errors import did_you_mean
from tunery.evaluate.judges.config import JudgeConfig
from tunery.evaluate.metrics import metric_names
from tunery.graders.config import Grader, checked, criteria_of


def known_metric(name: str) -> str:
    """Return a metric's name, or refuse one that no evaluation could ever hold.

    Raises:
        ValueError: There is no such metric; says the nearest.
    """
    known = metric_names()
    if name.partition(".")[0] not in known:
        raise ValueError(f"unknown metric{did_you_mean(name, known)} (there is: {', '.join(known)})")
    return name


def _is_auto(value: object) -> bool:
    """Leave later settings out where they are not written: ids stay as they were."""
    return value == "auto"


def _is_on(value: object) -> bool:
    return value is True


class GoalConfig(Settings):
    """What the model is for, in one number."""

    metric: Annotated[str, AfterValidator(known_metric)] = "exact_match"
    """Metric that decides; its scorer says which answers count as right."""
    target: float | None = None
    """Value worth reaching: at least this, for perplexity at most."""
    min_gain_over_prompting: float = Field(default=0.02, ge=0)
    """Smallest gain over the best prompted baseline that is worth shipping a model for."""


class BaselineConfig(Settings):
    """How the base model is prompted, so that prompting gets its best chance."""

    zero_shot: bool = True
    """Measure the base with the prompt alone."""
    few_shot: bool = True
    """Measure the base with solved examples from the train split in the prompt."""
    few_shot_retrieved: bool | Literal["auto"] = Field(default="auto", exclude_if=_is_auto)
    """Measure the base with solved examples chosen for each question: the nearest of the train split, the
    nearest last. Costs a prompt of its own per question."""
    tfidf: bool = Field(default=True, exclude_if=_is_on)
    """Where the outputs are a closed label set, also measure logistic regression on TF-IDF weights, fitted on
    the train split: no model, and seconds. `best_arm` in a gate rule counts it, `best_baseline` does not."""
    shots: Annotated[int, Field(ge=1, le=256)] | Literal["max"] = 8
    """Solved examples in a few-shot prompt [count]; `max` for as many as `max_shot_tokens` and the base's
    window bear."""
    max_shot_tokens: int = Field(default=2048, ge=16)
    """Tokens that all solved examples may take together; those that do not fit are passed over [count]."""
    constrained: bool | Literal["auto"] = "auto"
    """Also measure each baseline with answers forced into the label set or the JSON schema; `auto` does so
    wherever there is one."""
    system_prompt: str | None = None
    """System turn of the baselines; `{labels}` becomes the list of labels. By default the data's own system
    prompt, followed by the labels of a closed set or the JSON schema."""
    perplexity: bool = True
    """Measure perplexity, and of preference rows preference accuracy, of the baselines too; costs one more
    pass over every prompt."""
    seed: int = Field(default=0, ge=0)
    """Which examples are drawn."""

    @property
    def most_shots(self) -> int | None:
        """Solved examples that a prompt may show [count]; None for as many as fit."""
        return None if self.shots == "max" else self.shots

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the baselines that are switched on, without those held to a form."""
        names = ("zero_shot", "few_shot", "few_shot_retrieved")
        return tuple(name for name in names if getattr(self, name) is True)


class EvaluateConfig(Settings):
    """What is measured on the test split, and how."""

    metrics: Literal["auto"] | tuple[str, ...] = "auto"
    """Metrics by name, as listed under Metrics. `auto`: those that the list names for the outputs of this
    data, be they labels, JSON or open text."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Tokens an answer may have at most; longer ones are cut off and a warning says how many."""
    limit: int | None = Field(default=None, ge=1)
    """Test rows to use at most, drawn evenly over classes by `seed`; all by default [rows]."""
    perplexity_limit: int | None = Field(default=100, ge=2)
    """Rows to measure perplexity on at most, drawn the same way; `null` for all [rows]."""
    seed: int = Field(default=0, ge=0)
    """Of row draws and bootstraps."""
    json_schema: Mapping[str, Any] | None = None
    """JSON Schema that answers must follow to count as valid JSON."""
    fields: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Fields that count for field_match; by default all that each reference has."""
    bleu_tokenizer: Literal["13a", "intl", "char", "zh", "none"] = Field(
        default="13a", exclude_if=lambda name: name == "13a"
    )
    """How BLEU cuts texts into tokens, by sacrebleu's names: `char` or `zh` where words have no spaces."""
    confidence: bool = Field(default=False, exclude_if=lambda on: not on)
    """Keep how likely the model held each answer, and measure ece, brier and coverage_at_error by it."""
    max_error: float = Field(default=0.02, gt=0, lt=1, exclude_if=lambda error: error == 0.02)
    """Share of wrong answers that coverage_at_error holds, by withholding those it is unsure of."""
    pattern: str | None = Field(default=None, exclude_if=lambda pattern: pattern is None)
    """Regular expression that whole answers must match, for the metric regex; `(?s).*` on both sides finds it
    anywhere."""
    sql_schema: str | None = Field(default=None, exclude_if=lambda schema: schema is None)
    """SQL that creates and fills the tables that the metric sql runs queries on; a row's column `sql_schema`
    goes before it."""
    repeats: int = Field(default=1, ge=1, le=100, exclude_if=lambda times: times == 1)
    """Answers to each row, each with a seed of its own; they count as one row. More than one takes a
    temperature, and adds the metrics pass_at_k and repeat_agreement."""
    pass_k: int | None = Field(default=None, ge=1, exclude_if=lambda k: k is None)
    """The k of pass_at_k: the chance that one of so many answers is right; `repeats` by default."""
    temperature: float = Field(default=0.0, ge=0, le=2, exclude_if=lambda value: value == 0.0)
    """At which answers are drawn; 0 takes the likeliest token, always."""
    rows_per_batch: int = Field(default=64, ge=1)
    """Rows handed to the engine at once; progress moves after each batch."""
    baseline: BaselineConfig = BaselineConfig()
    """How the base is prompted for comparison."""
    judge: JudgeConfig | None = Field(default=None, exclude_if=lambda judge: judge is None)
    """A model behind an endpoint that judges answers: by a rubric for the metric `judge_rubric`, against
    those of the best baseline for `judge_win_rate`."""
    slices: tuple[str, ...] = Field(default=(), exclude_if=lambda slices: not slices)
    """Metadata columns, `label`, `turns` or `length` by whose values the main metric is also compared with
    the best baseline's, corrected over all of them; where the tuned model is worse a warning says so."""
    memorised: int = Field(default=50, ge=0, le=10_000, exclude_if=lambda rows: rows == 50)
    """Rows of the train split, and as many of the test split, whose answers are begun for the tuned model, to
    see whether it goes on word for word; 0 for none. Of answers under 24 words none are [rows]."""
    graders: Annotated[tuple[Grader, ...], BeforeValidator(criteria_of), AfterValidator(checked)] = Field(
        default=(), exclude_if=lambda graders: not graders
    )
    """OpenAI's graders as they are written there: a list (`testing_criteria`), or name to grader. Each gives
    a metric `grader.NAME`; `grader` is the share of answers that pass all."""

    @model_validator(mode="after")
    def _repeats_differ(self) -> Self:
        if self.repeats > 1 and not self.temperature:
            raise ValueError("repeats of greedy answers are all alike; set a temperature, such as 0.8")
        if self.pass_k is not None and self.pass_k > self.repeats:
            raise ValueError(f"pass_k {self.pass_k} takes as many repeats, and there are {self.repeats}")
        return self

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: Literal["auto"] | tuple[str, ...]) -> Literal["auto"] | tuple[str, ...]:
        if metrics == "auto":
            return metrics
        if not metrics:
            raise ValueError("needs at least one metric, or auto")
        known = metric_names()
        problems = [f"unknown metric {m!r}{did_you_mean(m, known)}" for m in metrics if m not in known]
        if problems:
            raise ValueError(f"{'; '.join(problems)} (there is: {', '.join(known)})")
        return tuple(dict.fromkeys(metrics))

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, schema: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if schema is not None:
            import jsonschema  # type: ignore[import-untyped]  # ships no types

            kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
            try:
                kind.check_schema(schema)
            except jsonschema.SchemaError as error:
                raise ValueError(f"not a JSON Schema: {error.message:.200}") from None
        return schema
