"""The recipe: one YAML file, one model, everything that a run does."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from tunery.benchmarks.config import BenchmarkConfig
from tunery.core.canaries import SUITE as CANARIES
from tunery.core.config import Settings, apply_overrides, find_moved, move_settings, parse_settings, read_yaml
from tunery.core.errors import ConfigError, did_you_mean
from tunery.core.ids import check_name
from tunery.data.config import MOVED as MOVED_DATA
from tunery.data.config import DataConfig, SourceConfig
from tunery.deploy.config import DeployConfig
from tunery.evaluate.arms.config import Arms
from tunery.evaluate.config import EvaluateConfig, GoalConfig
from tunery.evaluate.suites import suite_declaration, suite_names
from tunery.gate.rules import HUMAN, MARGIN, GateConfig
from tunery.inspect.config import InspectConfig
from tunery.model.chat_templates import INPUT_HEADING, check_chat_template
from tunery.serve.engines import AnyEngine
from tunery.track.config import TrackConfig
from tunery.train.config import TrainConfig
from tunery.train.section import TrainSection, default_train_config

MOVED = {"data.inspect": "inspect", **{f"data.{old}": f"data.{new}" for old, new in MOVED_DATA.items()}}
"""Settings of earlier recipes to where they stand now, as dotted paths."""


def _known_suite(name: str) -> str:
    known = suite_names()
    if name not in known:
        raise ValueError(f"no built-in suite{did_you_mean(name, known)} (there is: {', '.join(known)})")
    return name


class SuiteConfig(Settings):
    """Examples of another kind that the tuned model must not get worse at."""

    source: SourceConfig | None = Field(default=None, exclude_if=lambda source: source is None)
    """The file of examples, mapped as in ``data``."""
    builtin: Annotated[str, AfterValidator(_known_suite)] | None = Field(
        default=None, exclude_if=lambda name: name is None
    )
    """In place of a file: `general` (HellaSwag and MMLU, 400 items), `safety` (harmful prompts plain and
    dressed up, safe ones that look harmful, hidden instructions, 340 rows) or `bias`. It says by itself what
    is measured and what the gate wants ruled out; docs/evaluation.md has the figures."""
    system_prompt: str | None = None
    """System turn of its examples."""
    metrics: tuple[str, ...] = ("exact_match",)
    """What is measured."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Tokens an answer may have at most [count]."""
    limit: int | None = Field(default=None, ge=1)
    """Rows to use at most [rows]."""
    within: float | None = Field(default=None, ge=0, exclude_if=lambda margin: margin is None)
    """Loss against the base that the gate wants ruled out in each metric, where no rule is about the suite;
    by default what a built-in suite says, and 0.05 on a file."""

    @model_validator(mode="before")
    @classmethod
    def _of_builtin(cls, values: Any) -> Any:
        """Take what a built-in suite says of itself, where the recipe does not."""
        name = values.get("builtin") if isinstance(values, Mapping) else None
        if not isinstance(name, str) or name not in suite_names():
            return values
        declared = suite_declaration(name)
        own = {"metrics": tuple(declared.margins), "max_new_tokens": declared.max_new_tokens}
        return own | dict(values)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.builtin is None):
            raise ValueError("needs either source or builtin")
        return self

    @property
    def margins(self) -> Mapping[str, float]:
        """Losses that the gate wants ruled out where no rule is about the suite, by metric."""
        if self.builtin is None:
            return {self.metrics[0]: MARGIN if self.within is None else self.within}
        declared = suite_declaration(self.builtin).margins
        own = {} if self.within is None else dict.fromkeys(self.metrics, self.within)
        return (
            dict.fromkeys(self.metrics, MARGIN)
            | {n: declared[n] for n in self.metrics if n in declared}
            | own
        )


def _usual_suites(section: Mapping[str, Any]) -> dict[str, SuiteConfig]:
    """Return the suites of a recipe that names none and does not say why not."""
    if section.get("suites_off"):
        return {}
    named = (name for name in suite_names() if suite_declaration(name).by_default)
    return {name: SuiteConfig.model_validate({"builtin": name}) for name in named}


_TAKEN = (CANARIES, "memorised", HUMAN)
"""What gate rules call what is no suite of a recipe's own."""


class EvaluateSection(EvaluateConfig):
    """What is measured, on the test split and on named suites."""

    engine: AnyEngine | None = None
    """Engine that answers: baselines, suites and the tuned model alike. By default the embedded one on
    `train.device` with `train.threads`."""
    arms: Arms = Field(default={}, exclude_if=lambda arms: not arms)
    """Name to what else answers the test rows: a model behind an endpoint (`base_url`, `model`, …) or
    `answers` in a file. Gate rules may name it."""
    price_per_hour: float | None = Field(default=None, ge=0, exclude_if=lambda price: price is None)
    """What an hour of the hardware that trains and answers costs [US dollars]; reports then say what 1,000
    requests cost by each arm, and when training has paid itself."""
    suites_off: str | None = Field(default=None, min_length=1, exclude_if=lambda reason: reason is None)
    """Why neither general ability nor safety is measured where `suites` names none; verdicts say it."""
    suites: Mapping[str, SuiteConfig] = Field(default_factory=_usual_suites)
    """Name to suite; gate rules refer to them. By default `general` and `safety`, each with a loss of 10
    points to be ruled out; `suites_off` gives the reason to do without."""
    benchmarks: Mapping[str, BenchmarkConfig] = Field(default={}, exclude_if=lambda found: not found)
    """Name to published benchmark, measured on base and tuned model as a suite is: gate rules say
    ``on: name``. Needs the extra ``benchmarks``."""

    @field_validator("suites", "benchmarks")
    @classmethod
    def _has_its_own_name(cls, named: Mapping[str, Any]) -> Mapping[str, Any]:
        if taken := [name for name in named if name in _TAKEN]:
            raise ValueError(f"{', '.join(taken)}: taken by what is measured besides; choose another name")
        return named


class Recipe(Settings):
    """From raw files to a served model, with the rules it must hold to be shipped."""

    name: str
    """Name of the model in the registry."""
    description: str | None = None
    """What the model is for, in a sentence; told in the model card."""
    goal: GoalConfig
    """The metric that decides, its target, and the smallest gain over prompting worth shipping."""
    base: str
    """``smollm2-135m-instruct``, a Hugging Face folder, or a hub id with its revision."""
    chat_template: str | None = None
    """Template that writes conversations in place of the base's own: ``chatml``, ``alpaca``, or the path of a
    Jinja file. It goes with what is trained: evaluation, serving and exports write prompts the same way."""
    data: DataConfig
    """Where the rows come from, how they are cleaned and split."""
    inspect: InspectConfig = InspectConfig()
    """What ``tunery data inspect`` looks for; no part of what a run makes."""
    train: TrainSection = default_train_config()
    """How the adapter is trained."""
    evaluate: EvaluateSection = EvaluateSection()
    """What is measured."""
    gate: GateConfig = GateConfig()
    """What must hold; written before training and stored with the run."""
    deploy: DeployConfig = DeployConfig()
    """How a version that passed reaches users."""
    track: TrackConfig = TrackConfig()
    """Experiment trackers that a run tells what it does; no part of what it makes."""

    @field_validator("train")
    @classmethod
    def _can_be_served(cls, train: TrainConfig) -> TrainConfig:
        if train.unservable:
            raise ValueError(train.unservable)
        return train

    @field_validator("chat_template")
    @classmethod
    def _known_template(cls, spec: str | None) -> str | None:
        try:
            return spec and check_chat_template(spec)
        except ConfigError as error:
            raise ValueError(error.message) from None

    @model_validator(mode="before")
    @classmethod
    def _with_headings(cls, values: Any) -> Any:
        """Have rows of an instruction and an input keep the two apart where the template does."""
        if not isinstance(values, Mapping) or values.get("chat_template") != "alpaca":
            return values
        given = copy.deepcopy(dict(values))
        for source in _sources_in(given):
            if source.get("before_input") is None:
                source["before_input"] = INPUT_HEADING
        return given

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        try:
            return check_name(name, "name")
        except ConfigError as error:
            raise ValueError(error.message) from None


def _sources_in(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the sources of a recipe that is not yet validated, those of suites too."""
    match values.get("data"):
        case {"sources": [*sources]}:
            yield from (source for source in sources if isinstance(source, dict))
    match values.get("evaluate"):
        case {"suites": Mapping() as suites}:
            yield from (s["source"] for s in suites.values() if isinstance((s or {}).get("source"), dict))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply ``key=value`` overrides.

    Raises:
        ConfigError: Lists every problem.
    """
    return parse_recipe(apply_overrides(read_yaml(path), overrides), where=str(path))


def parse_recipe(values: Mapping[str, Any], *, where: str) -> Recipe:
    """Validate a recipe that is already a mapping; ``where`` names it in messages.

    Raises:
        ConfigError: Lists every problem; a setting that has moved comes with its new place.
    """
    moved = [f"{old} has moved; write it as {new}" for old, new in find_moved(values, MOVED).items()]
    if moved:
        raise ConfigError.of_problems(where, moved)
    return parse_settings(Recipe, values, where=where)


def stored_recipe(values: Mapping[str, Any], *, where: str) -> Recipe:
    """Validate a recipe that was stored with a job or a run, perhaps by an earlier version of Tunery.

    Settings that have moved since are taken from where they stood.

    Raises:
        ConfigError: Lists every problem.
    """
    return parse_recipe(move_settings(values, MOVED), where=where)
