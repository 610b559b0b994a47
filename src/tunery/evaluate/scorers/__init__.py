"""When an answer is right: one file per scorer, found by its file name.

A scorer is a module here with a function ``make(options)`` that returns a :class:`Scorer` and a
``DECLARATION`` of what it is; the module's name is the scorer's, the metric's (its mean over examples) and
what recipes write. Settings, documentation, reports and model cards read the declaration, so adding one is
adding a file and its test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self, cast, runtime_checkable

from tunery.core.evaluation import Unit
from tunery.core.example import Example, Message
from tunery.core.judging import NO_MODELS, AnswerForm, ScorerModels
from tunery.core.plugins import load_plugin, plugin_names
from tunery.evaluate.judges.config import JudgeConfig
from tunery.text.refusal import CorrectedRate

TaskKind = Literal["labels", "json", "text"]
"""What the references are: labels of a closed set, JSON objects, or anything else."""
Need = Literal["labels", "json", "encoder", "judge", "pairs", "graders", "repeats", "price", "canaries"]
"""A closed label set; JSON objects as references; an embedding model; a model that judges; rejected answers,
as preference pairs have them; graders in the recipe; rows that are answered several times; a price; canaries
planted in training."""


class Declaration(NamedTuple):
    """What a metric is, said where it is computed and read wherever it is named."""

    title: str
    """As a reader says it."""
    higher_is_better: bool = True
    needs: tuple[Need, ...] = ()
    """What a task must have for it."""
    checks_form: bool = False
    """Whether the scorer is a :class:`FormScorer`, which needs no reference to call an answer valid."""
    auto: tuple[TaskKind, ...] = ()
    """Tasks on which ``metrics: auto`` measures it."""
    judged_by: str | None = None
    """The scorer that says which answers are right, for a metric that judges none by itself."""
    unit: Unit = "share"
    """What its values are; only a share is written in percent and held to lie in [0, 1]."""
    scores: tuple[str, ...] = ()
    """Per-row numbers that a corpus metric is computed from, beside the texts: ``latency_ms``."""


@dataclass(frozen=True, slots=True)
class ScorerOptions:
    """What a scorer may need to know about the task."""

    labels: tuple[str, ...] | None = None
    """The closed label set."""
    json_schema: Mapping[str, Any] | None = None
    """What a JSON answer must follow."""
    fields: tuple[str, ...] | None = None
    """Fields of a JSON answer that count; None for all that the reference has."""
    models: ScorerModels = NO_MODELS
    """Models that the scorer may ask."""
    references: Sequence[str] = ()
    """Of every example: a loose match must not confuse two answers that occur."""
    judge: JudgeConfig | None = None
    """By which rubric a judge scores."""
    bleu_tokenizer: str = "13a"
    """sacrebleu's name of how BLEU cuts texts into tokens."""
    max_error: float = 0.02
    """Share of wrong answers to be held by withholding unsure ones."""
    pattern: str | None = None
    """What answers must match."""
    sql_schema: str | None = None
    """SQL that creates and fills the tables that queries are run on."""
    graders: Sequence[Any] = ()
    """As :mod:`tunery.graders.config` has them."""
    main_part: str = ""
    """Part of the scorer's metric that the goal names; empty where it names the whole."""

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """Return what a stored evaluation's settings say, as far as answers are compared by it."""
        labels = config.get("labels")
        tokenizer = config.get("bleu_tokenizer") or cls().bleu_tokenizer
        return cls(
            labels=tuple(labels) if labels else None,
            bleu_tokenizer=tokenizer,
            max_error=config.get("max_error", 0.02),
        )


class Scorer(Protocol):
    """Judges one answer against its example; must never raise on what a model may write."""

    def score(self, prediction: str, example: Example) -> float:
        """Return a value in [0, 1]; the declaration says which end is best."""
        ...

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the answer counts as right where only right and wrong are counted."""
        ...


@runtime_checkable
class DetailedScorer(Protocol):
    """A scorer that also judges parts of an answer; each part becomes a metric ``scorer.part``."""

    def parts(self, prediction: str, example: Example) -> Mapping[str, float]:
        """Return part to a value in [0, 1]."""
        ...


@runtime_checkable
class NamesParts(Protocol):
    """A :class:`DetailedScorer` whose parts are the same whatever the answer."""

    part_names: Sequence[str]


@runtime_checkable
class ReferenceScorer(Protocol):
    """A scorer that can tell of a row that no answer to it could be right."""

    def problem(self, example: Example) -> str | None:
        """Return what is wrong with the row's reference; None where it will do."""
        ...


@runtime_checkable
class AskingScorer(Protocol):
    """A scorer that puts questions to the judging model; all of an evaluation's are asked at once."""

    form: AnswerForm

    def questions(self, prediction: str, example: Example) -> Sequence[Sequence[Message]]:
        """Return the conversations that scoring this answer needs the judge's answers to."""
        ...


@runtime_checkable
class PreparedScorer(Protocol):
    """A scorer that judges all answers of an evaluation at once, and then knows each."""

    @property
    def warnings(self) -> Sequence[str]:
        """What a person should know of how the answers were judged."""
        ...

    def prepare(self, rows: Sequence[tuple[str, Example]]) -> None:
        """Judge answers, each with its example."""
        ...


class PartialScorer(Protocol):
    """A scorer that judges some rows of a task and leaves the others out of its metric."""

    def applies(self, example: Example) -> bool:
        """Return whether the row is one to be judged."""
        ...


def applies(scorer: Scorer, example: Example) -> bool:
    """Return whether a scorer judges a row; most judge all."""
    # Asked of every row, where to look through the protocol takes twenty times as long as to ask the scorer.
    return not hasattr(scorer, "applies") or cast(PartialScorer, scorer).applies(example)


@runtime_checkable
class ErringScorer(Protocol):
    """A scorer that errs as was measured; beside its mean stands ``scorer.corrected``."""

    def corrected(self, predictions: Sequence[str]) -> CorrectedRate:
        """Return the mean as it would be without the error, for the answers to the rows that it judges."""
        ...


@runtime_checkable
class FormScorer(Protocol):
    """A scorer that tells by the answer alone whether it has the form that the task asks for."""

    def valid(self, prediction: str) -> bool:
        """Return whether whoever calls the model could use the answer, be it right or wrong."""
        ...


def scorer_names() -> tuple[str, ...]:
    """Return the names of the scorers that exist, sorted."""
    return plugin_names(__name__)


def make_scorer(name: str, options: ScorerOptions | None = None) -> Scorer:
    """Return the scorer called ``name``.

    Raises:
        NotFoundError: There is no such scorer; says the nearest.
        ConfigError: The scorer needs an option that is not given.
    """
    return cast(Scorer, load_plugin(__name__, "scorer", name).make(options or ScorerOptions()))


def declaration_of_scorer(name: str) -> Declaration:
    """Return what the scorer called ``name`` says of itself.

    Raises:
        NotFoundError: There is no such scorer; says the nearest.
    """
    return cast(Declaration, load_plugin(__name__, "scorer", name).DECLARATION)
