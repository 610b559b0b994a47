"""Models that a scorer or a grader may ask, and what their answers must look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tunery.core.example import Message


class ScorerModels(NamedTuple):
    """Models that scorers may ask, where an evaluation is given them."""

    encoder: Callable[[Sequence[str]], Any] | None = None
    """Texts to vectors of length one, shape ``(n_texts, dimensions)``."""
    judge: Callable[[Sequence[Message]], str] | None = None
    """A conversation to the judging model's answer; raises :class:`NoAnswer` where there is none. One that
    :class:`AsksMany` is given all conversations of an evaluation at once."""
    named: Callable[[str, Mapping[str, Any]], Callable[[Sequence[Message]], str]] | None = None
    """A model's name, and settings of the endpoint that differ for it, to a judge that asks that model."""


NO_MODELS = ScorerModels()


class NoAnswer(Exception):  # noqa: N818 - an outcome that scorers count as an error
    """The judging model gave no answer that can be used; says why."""


class AnswerForm(NamedTuple):
    """What the judging model's answer must look like."""

    schema: Mapping[str, Any] | None
    """JSON Schema for endpoints that can hold an answer to one; None for free text."""
    readable: Callable[[str], bool]
    """Whether an answer can be used; one that cannot is asked for again."""


ANY_FORM = AnswerForm(None, lambda text: True)


@runtime_checkable
class AsksMany(Protocol):
    """A judge that answers many conversations at once, and knows the answers from then on."""

    def ask(self, conversations: Sequence[Sequence[Message]], form: AnswerForm = ANY_FORM) -> None:
        """Get the answers to conversations, so that calling with one of them takes no time."""
        ...
