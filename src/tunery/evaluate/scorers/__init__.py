"""When an answer is right: one file per scorer, found by its file name.

A scorer is a module here with a function ``make(options)`` that returns a :class:`Scorer`; the module's
name is the scorer's, the metric's (its mean over examples) and what recipes write. Adding one is adding a
file and its test.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from tunery.core.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class ScorerOptions:
    """What a scorer may need to know about the task."""

    labels: tuple[str, ...] | None = None
    """The closed label set."""
    json_schema: Mapping[str, Any] | None = None
    """What a JSON answer must follow."""
    fields: tuple[str, ...] | None = None
    """Fields of a JSON answer that count; None for all that the reference has."""


class Scorer(Protocol):
    """Judges one answer against its reference; must never raise on what a model may write."""

    def score(self, prediction: str, reference: str) -> float:
        """Return a value in [0, 1], 1 being best."""
        ...

    def correct(self, prediction: str, reference: str) -> bool:
        """Return whether the answer counts as right where only right and wrong are counted."""
        ...


@runtime_checkable
class DetailedScorer(Protocol):
    """A scorer that also judges parts of an answer; each part becomes a metric ``scorer.part``."""

    def parts(self, prediction: str, reference: str) -> Mapping[str, float]:
        """Return part to a value in [0, 1]."""
        ...


def scorer_names() -> tuple[str, ...]:
    """Return the names of the scorers that exist, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def make_scorer(name: str, options: ScorerOptions | None = None) -> Scorer:
    """Return the scorer called ``name``.

    Raises:
        NotFoundError: There is no such scorer; says the nearest.
        ConfigError: The scorer needs an option that is not given.
    """
    known = scorer_names()
    if name not in known:  # also keeps a name from a recipe from importing anything else
        raise NotFoundError.of("scorer", name, known)
    module = importlib.import_module(f"{__name__}.{name}")
    return cast(Scorer, module.make(options or ScorerOptions()))
