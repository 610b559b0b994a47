"""The fields of OpenAI's graders, as its evals, its graders and its reinforcement fine-tuning take them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from tunery.core.config import Settings
from tunery.core.errors import ConfigError
from tunery.graders.formula import names_in

GRADER = "grader"
"""The metric of all graders, and what stands before the name of one."""
ERROR = "error"
"""Part of the metric `grader`: 1 for an answer that a grader could not grade, else 0."""
_NO_LETTERS = re.compile(r"[^a-z0-9]+")


def part_name(name: str) -> str:
    """Return what a grader's metric is called behind `grader.`.

    >>> part_name("Match output to human label")
    'match_output_to_human_label'
    """
    return _NO_LETTERS.sub("_", name.lower()).strip("_")


class _Named(Settings):
    name: str = Field(default="", max_length=200)
    """What it is called; its metric is `grader.NAME`, in lower-case letters, digits and `_`."""


class _Graded(_Named):
    range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest score; the metric is the score from 0 to 1 between them."""
    pass_threshold: float | None = None
    """Score from which an answer passes; the middle of the range by default."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range: {self.range[0]:g} is not below {self.range[1]:g}")
        return self


class StringCheck(_Named):
    """Whether two texts are the same, differ, or the first contains the second."""

    type: Literal["string_check"]
    """Which grader it is."""
    input: str
    """Text to be checked, a template."""
    reference: str
    """What it is checked against, a template."""
    operation: Literal["eq", "ne", "like", "ilike"]
    """The same; not the same; contains; contains whatever the case."""


class TextSimilarity(_Graded):
    """How like two texts are."""

    type: Literal["text_similarity"]
    """Which grader it is."""
    input: str
    """Text to be graded, a template."""
    reference: str
    """What it is held against, a template."""
    evaluation_metric: Literal[
        "cosine", "fuzzy_match", "bleu", "gleu", "meteor",
        "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
    ]  # fmt: skip
    """By what."""


class PythonCode(_Graded):
    """Code with a function ``grade(sample, item)`` that returns a number; it runs in a sandbox."""

    type: Literal["python"]
    """Which grader it is."""
    source: str
    """The code."""
    image_tag: str | None = None
    """Accepted and not used: there is one Python here."""

    @field_validator("source")
    @classmethod
    def _compiles(cls, source: str) -> str:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"this is no Python: {error}") from None
        if "grade" not in {getattr(node, "name", None) for node in ast.walk(tree)} and "grade" not in source:
            raise ValueError("the code defines no function grade(sample, item)")
        return source


class Turn(Settings):
    """One message to a grading model."""

    role: Literal["system", "developer", "user", "assistant"]
    """Whose."""
    content: str | Mapping[str, Any] | tuple[str | Mapping[str, Any], ...]
    """Its text, a template, or blocks of text."""
    type: Literal["message"] | None = None
    """Always a message."""

    @property
    def text(self) -> str:
        """The text of all blocks."""
        blocks = self.content if isinstance(self.content, tuple) else (self.content,)
        return "\n".join(b if isinstance(b, str) else str(b["text"]) for b in blocks)

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        blocks = self.content if isinstance(self.content, tuple) else (self.content,)
        for block in blocks:
            if isinstance(block, Mapping) and not isinstance(block.get("text"), str):
                raise ValueError(
                    f"content: {block.get('type')!r:.40} is no text, and only text is graded here"
                )
        return self


class SamplingParams(Settings):
    """How a grading model answers."""

    temperature: float | None = None
    """0 for the likeliest answer."""
    top_p: float | None = None
    """Share of the likeliest tokens that are drawn from."""
    max_completions_tokens: int | None = None
    """Longest answer [tokens]."""
    seed: int | None = None
    """Of the draws."""
    reasoning_effort: str | None = None
    """Handed on to the endpoint."""


class ScoreModel(_Graded):
    """A model that answers with a number."""

    type: Literal["score_model"]
    """Which grader it is."""
    input: tuple[Turn, ...] = Field(min_length=1)
    """What the model is shown, templates."""
    model: str
    """Which, at the endpoint of `evaluate.judge`."""
    sampling_params: SamplingParams | None = None
    """How it answers."""


class LabelModel(_Named):
    """A model that answers with one of some labels."""

    type: Literal["label_model"]
    """Which grader it is."""
    input: tuple[Turn, ...] = Field(min_length=1)
    """What the model is shown, templates."""
    model: str
    """Which, at the endpoint of `evaluate.judge`."""
    labels: tuple[str, ...] = Field(min_length=1)
    """What it may answer."""
    passing_labels: tuple[str, ...]
    """Labels of answers that pass."""
    sampling_params: SamplingParams | None = None
    """How it answers."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := sorted({*self.passing_labels} - {*self.labels}):
            raise ValueError(f"passing_labels: {', '.join(unknown)} is not among labels")
        return self


Single = Annotated[
    StringCheck | TextSimilarity | PythonCode | ScoreModel | LabelModel, Field(discriminator="type")
]


class Multi(_Graded):
    """Several graders and a formula over their scores."""

    type: Literal["multi"]
    """Which grader it is."""
    graders: Mapping[str, Single] = Field(min_length=1)
    """Name in the formula to grader."""
    calculate_output: str
    """Numbers, names of graders, `+ - * / ^`, and min, max, abs, floor, ceil, exp, sqrt, log."""

    @field_validator("graders", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        listed = [value] if isinstance(value, Mapping) and isinstance(value.get("type"), str) else value
        return {str(g.get("name")): g for g in listed} if isinstance(listed, (list, tuple)) else value

    @model_validator(mode="after")
    def _names(self) -> Self:
        if unknown := sorted(names_in(self.calculate_output) - {*self.graders}):
            raise ValueError(
                f"calculate_output: no grader {', '.join(unknown)} (there is: {', '.join(self.graders)})"
            )
        return self


Grader = Annotated[
    StringCheck | TextSimilarity | PythonCode | ScoreModel | LabelModel | Multi, Field(discriminator="type")
]


def criteria_of(value: Any) -> Any:
    """Return graders as a list: of a list, of name to grader, or of an eval's testing_criteria."""
    if isinstance(value, Mapping) and isinstance(value.get("testing_criteria"), Sequence):
        value = value["testing_criteria"]
    if isinstance(value, Mapping):
        return [
            {"name": name, **given} if isinstance(given, Mapping) else given for name, given in value.items()
        ]
    return value


def asks_model(graders: Iterable[Any]) -> bool:
    """Return whether one of these graders asks a model."""
    inner = (one for grader in graders for one in getattr(grader, "graders", {"": grader}).values())
    return any(one.type in ("score_model", "label_model") for one in inner)


def is_cosine(grader: Any) -> bool:
    """Return whether a grader needs an embedding model, by itself or by one within it."""
    inner = getattr(grader, "graders", {"": grader}).values()
    return any(getattr(one, "evaluation_metric", None) == "cosine" for one in inner)


def read_graders(path: Path) -> list[Any]:
    """Return the graders in a file: an eval's object as OpenAI's API has it, a list, or name to grader.

    Raises:
        ConfigError: There is no such file, or it holds none.
    """
    try:
        found = criteria_of(yaml.safe_load(path.read_text(encoding="utf-8")))  # JSON is YAML
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: {error}", hint="client.evals.retrieve(ID).to_json() writes such a file"
        ) from None
    if not isinstance(found, list) or not all(isinstance(grader, dict) for grader in found) or not found:
        raise ConfigError(
            f"{path}: holds no graders",
            hint="an eval's object with testing_criteria, a list, or name to grader",
        )
    # The API writes what was not set as null.
    return [{key: value for key, value in grader.items() if value is not None} for grader in found]


def checked(graders: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return graders whose names can be told apart.

    Raises:
        ValueError: One has no name, or two have the same.
    """
    parts = [part_name(grader.name) for grader in graders]
    for grader, part in zip(graders, parts, strict=True):
        if not part or part == ERROR:
            raise ValueError(
                f"{grader.name!r:.60} cannot name a grader: it needs a letter or digit, and is not 'error'"
            )
        if parts.count(part) > 1:
            raise ValueError(f"two graders are called {part}")
    return graders
