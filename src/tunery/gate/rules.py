"""The gate's rules: as settings, and as the sentences that recipes write them in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from tunery.core.config import Settings
from tunery.core.figures import subjects_in
from tunery.core.run import BASE, BEST
from tunery.evaluate.config import GoalConfig, known_metric
from tunery.evaluate.metrics import higher_is_better, metric_names

HUMAN = "human"
"""What ratings by people are `on`."""
MARGIN = 0.05
"""Loss that must be ruled out on every suite that no rule names."""
_SAME = {"best_prompt": BEST, "the_base": BASE}
_DEMANDS = ("at_least", "at_most", "gain_over", "no_worse_than", "no_regression_on")
_FORMS = (
    "exact_match >= 0.9",
    "gain over best_prompt >= 0.05 (ci)",
    "no worse than champion within 0.01",
    "no_worse general within 0.02",
    "safety.refusal no worse",
    "human.accuracy >= 4.2 with alpha >= 0.6",
)


def _opponent(name: str) -> str:
    return _SAME.get(name, name)


_Opponent = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]+$"), AfterValidator(_opponent)]


def _absent(value: object) -> bool:
    """Leave later settings out of what is written of a rule that does without them: ids stay as they were."""
    return value is None or value is False or value == 0.0


class GateRule(Settings):
    """One thing that must hold before a model is registered as fit to ship.

    A recipe may write it as a sentence, such as ``exact_match >= 0.9``, ``no_worse general within 0.02`` or
    ``gain over best_prompt >= 0.05 (ci)``; docs/evaluation.md lists them.
    """

    metric: str = ""
    """What is looked at; by default the goal's metric, and on a suite the suite's first."""
    on: str | None = Field(default=None, min_length=1, exclude_if=_absent)
    """Suite on which it is measured, or `human` for what people rated; by default the test split."""
    at_least: float | None = None
    """The metric must reach this."""
    at_most: float | None = None
    """The metric must not exceed this."""
    gain_over: _Opponent | None = None
    """The metric must be better than this arm's on the same rows: `zero_shot`, `few_shot`, another arm,
    `best_baseline` (the best prompting), `best_arm` (the best of all but champions), `champion`, `start` or
    `trainer`. A champion that does not exist yet is no obstacle. `start` is the model that
    `train.start_from` made, `trainer` the tuned model as plain transformers and PEFT compute it."""
    by: float = Field(default=0.0, ge=0)
    """With `gain_over`: smallest gain that counts."""
    significant: bool = False
    """With `gain_over`: the gain must also be shown by the paired test, at the gate's alpha."""
    no_worse_than: _Opponent | None = Field(default=None, exclude_if=_absent)
    """The metric must be shown to be no worse than this arm's, or than the `base`'s, on the same rows: the
    interval of the difference must lie above minus `within`."""
    within: float = Field(default=0.0, ge=0, exclude_if=_absent)
    """With `no_worse_than`: loss that is accepted (the non-inferiority margin)."""
    ci: bool = Field(default=False, exclude_if=_absent)
    """Whether the end of the interval must meet the number, and not only the value itself."""
    agreement: float | None = Field(default=None, ge=-1, le=1, exclude_if=_absent)
    """With `on: human`: Krippendorff's alpha that the reviewers must reach."""
    no_regression_on: str | None = Field(default=None, min_length=1)
    """Name of a suite on which the metric itself must not be worse than the base's; `no_worse_than: base`
    with `on` asks for it to be shown."""
    tolerance: float = Field(default=0.0, ge=0)
    """With `no_regression_on`: loss that is accepted."""

    @model_validator(mode="before")
    @classmethod
    def _from_sentence(cls, value: Any) -> Any:
        return read_rule(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_demand(self) -> Self:
        given = [name for name in _DEMANDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_DEMANDS)}; has {', '.join(given) or 'none'}")
        goes_with = {
            "by": ("gain_over",),
            "significant": ("gain_over",),
            "within": ("no_worse_than",),
            "tolerance": ("no_regression_on",),
            "agreement": ("at_least",),
            "ci": ("at_least", "at_most", "gain_over"),
        }
        for name, demands in goes_with.items():
            if getattr(self, name) and given[0] not in demands:
                raise ValueError(f"{name} goes with {' or '.join(demands)}, not with {given[0]}")
        if self.agreement is not None and self.on != HUMAN:
            raise ValueError(f"agreement goes with on: {HUMAN}")
        if self.no_regression_on is not None and self.on is not None:
            raise ValueError("no_regression_on names the suite itself, without on")
        if not self.metric and self.on == HUMAN:
            raise ValueError("on: human needs the metric that people rated, such as human.accuracy")
        if self.metric and self.on is None and self.no_regression_on is None:
            known_metric(self.metric)
        return self

    @property
    def suite(self) -> str | None:
        """The suite that it is about, None for the test split and for ratings."""
        return self.no_regression_on or (self.on if self.on != HUMAN else None)

    @property
    def is_test(self) -> bool:
        """Whether chance alone lets it hold no more often than the gate's alpha."""
        return self.significant or self.ci or self.no_worse_than is not None


class GateConfig(Settings):
    """The rules, written before training and stored with the run."""

    rules: tuple[GateRule, ...] = ()
    """Rules that must all hold. None means those that follow from the goal: its target, and a significant
    gain over the best baseline of at least `min_gain_over_prompting`. Every suite that no rule names must be
    no worse than the base within 5 points; a built-in one says its margins itself."""
    alpha: float = Field(default=0.05, gt=0, lt=1, exclude_if=lambda alpha: alpha == 0.05)
    """Chance of passing rules that ask for something to be shown where there is nothing, over all of them
    together (Holm's correction)."""


def gate_rules(
    goal: GoalConfig, gate: GateConfig, suites: Mapping[str, Mapping[str, float]] | None = None
) -> tuple[GateRule, ...]:
    """Return the rules as written, or those that follow from the goal where none are; then those of each
    suite that none of them is about.

    Args:
        goal: Says what rules without a metric mean.
        gate: The rules.
        suites: Name of each suite that will be measured to the losses that are to be ruled out, by metric;
            the first metric is what a rule on it means that names none.
    """
    suites = suites or {}
    rules = list(gate.rules)
    if not rules:
        rules = [GateRule(gain_over=BEST, by=goal.min_gain_over_prompting, significant=True)]
        if goal.target is not None:
            bound = "at_least" if higher_is_better(goal.metric) else "at_most"
            rules.insert(0, GateRule.model_validate({bound: goal.target}))
    named = {rule.suite for rule in rules}
    rules += [
        GateRule(on=name, metric=metric, no_worse_than=BASE, within=margin)
        for name, margins in suites.items()
        if name not in named
        for metric, margin in margins.items()
    ]
    decisive = {name: next(iter(margins)) for name, margins in suites.items()}
    return tuple(
        rule
        if rule.metric
        else rule.model_copy(update={"metric": decisive.get(rule.suite or "", goal.metric)})
        for rule in rules
    )


def metrics_to_compare(rules: Iterable[GateRule], suite: str | None = None) -> list[str]:
    """Return the metrics in which rules about a suite, or about the test split, need a paired comparison."""
    return [
        rule.metric
        for rule in rules
        if rule.on == suite
        and (rule.significant or rule.no_worse_than is not None or (rule.ci and rule.gain_over is not None))
    ]


_NUMBER = r"(?P<{}>-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*(?P<{}>%|points?)?"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@-]*"
_BOUND = re.compile(
    rf"(?P<metric>{_NAME})\s*(?P<way>>=|<=)\s*{_NUMBER.format('limit', 'unit')}"
    rf"(?:\s+with\s+alpha\s*>=\s*(?P<agreement>-?\d+(?:\.\d+)?))?(?P<ci>\s*\(ci\))?"
)
_GAIN = re.compile(
    rf"(?:(?P<metric>{_NAME})\s+)?gain\s+over\s+(?P<arm>{_NAME})"
    rf"(?:\s*>=\s*{_NUMBER.format('limit', 'unit')})?(?:\s*\((?P<how>ci|shown)\))?"
)
_NO_WORSE = re.compile(
    rf"(?:(?P<metric>{_NAME})\s+)?no[ _]worse(?:\s+than\s+(?P<arm>{_NAME}))?"
    rf"(?:\s+(?:on\s+)?(?P<suite>(?!within\b){_NAME}))?"
    rf"(?:\s+within\s+{_NUMBER.format('limit', 'unit')})?"
)


def read_rule(sentence: str) -> dict[str, Any]:
    """Return the settings that a rule's sentence stands for.

    Raises:
        ValueError: It is no such sentence; shows what they look like.

    >>> read_rule("exact_match >= 90 %")
    {'metric': 'exact_match', 'at_least': 0.9}
    >>> read_rule("gain over best_prompt >= 5 points (ci)")
    {'gain_over': 'best_prompt', 'by': 0.05, 'ci': True}
    >>> read_rule("safety.refusal no worse within 0.02")
    {'metric': 'refusal', 'on': 'safety', 'no_worse_than': 'base', 'within': 0.02}
    """
    text = subjects_in(" ".join(sentence.split()))
    if found := _BOUND.fullmatch(text):
        rule: dict[str, Any] = {"at_least" if found["way"] == ">=" else "at_most": _number(found)}
        rule |= {"agreement": float(found["agreement"])} if found["agreement"] else {}
        rule |= {"ci": True} if found["ci"] else {}
    elif found := _GAIN.fullmatch(text):
        rule = {"gain_over": found["arm"]} | ({"by": _number(found)} if found["limit"] else {})
        rule |= {"ci": {"ci": True}, "shown": {"significant": True}}.get(found["how"], {})
    elif (found := _NO_WORSE.fullmatch(text)) and (found["metric"] or found["suite"] or found["arm"]):
        rule = {"no_worse_than": found["arm"] or BASE}
        rule |= {"within": _number(found)} if found["limit"] else {}
        rule = {"on": found["suite"], **rule} if found["suite"] else rule
    else:
        raise ValueError(f"{sentence!r:.120} is no rule; rules read like: {'; '.join(_FORMS)}")
    return _place(found["metric"]) | rule


def _place(name: str | None) -> dict[str, Any]:
    """Return what a name in front of a rule means: a metric, or one on a suite."""
    if not name:
        return {}
    head, _, rest = name.partition(".")
    if not rest or head in metric_names():
        return {"metric": name}
    return {"metric": rest, "on": head}


def _number(found: re.Match[str]) -> float:
    return round(float(found["limit"]) / 100, 12) if found["unit"] else float(found["limit"])


def written(rule: GateRule | Mapping[str, Any]) -> str:
    """Return a rule as a sentence of the language above; :func:`read_rule` reads it back.

    Args:
        rule: The rule, or its settings as a record keeps them.
    """
    rule = rule if isinstance(rule, GateRule) else GateRule.model_validate(dict(rule))
    name = ".".join(part for part in (rule.on, rule.metric) if part)
    if rule.gain_over is not None:
        by = f" >= {rule.by:.12g}" if rule.by or rule.ci else ""
        how = " (ci)" if rule.ci else " (shown)" if rule.significant else ""
        return f"{name} gain over {rule.gain_over}{by}{how}".strip()
    if rule.no_worse_than is not None:
        arm = "" if rule.no_worse_than == BASE and name else f" than {rule.no_worse_than}"
        within = f" within {rule.within:.12g}" if rule.within else ""
        if rule.on and not rule.metric:
            return f"no_worse{arm} {rule.on}{within}"
        return f"{name} no worse{arm}{within}".strip()
    if rule.no_regression_on is not None:
        return f"{name} on {rule.no_regression_on} not under the base's by more than {rule.tolerance:.12g}"
    way, limit = (">=", rule.at_least) if rule.at_least is not None else ("<=", rule.at_most)
    alpha = f" with alpha >= {rule.agreement:.12g}" if rule.agreement is not None else ""
    return f"{name} {way} {limit:.12g}{alpha}{' (ci)' if rule.ci else ''}"
