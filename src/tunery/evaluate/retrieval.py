"""Solved examples chosen for each question: the nearest rows of the train split, by meaning or by words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tunery.core.example import Example, prompt_text
from tunery.core.ids import artifact_id

if TYPE_CHECKING:  # reading a recipe must not load what computes
    from tunery.text.embeddings import Encoder
    from tunery.text.features import Vectors

WORDS = "words"
"""What texts are compared by where no sentence encoder is installed."""


class Likeness(NamedTuple):
    """By what texts are compared."""

    name: str = WORDS
    open: Callable[[], Encoder] | None = None
    """Loads the sentence encoder of that name; None for word statistics of the texts themselves."""


class Room(NamedTuple):
    """What solved examples may take."""

    shots: int | None
    """At most [count]; None for as many as fit."""
    tokens: int
    """Together [count]."""
    length: Callable[[Example], int | None]
    """Of one of them, as a turn and its answer [tokens]; None where it cannot be shown."""
    fits: Callable[[Example, tuple[Example, ...]], bool]
    """Whether a question still leaves room for its answer behind these."""


class Retriever:
    """The nearest solved examples of each question; nothing is computed before the first is wanted.

    A row of a question's own group is never shown with it: it would (nearly) give the answer away.

    Args:
        train: Where solved examples come from.
        questions: All that will be asked.
        room: How many there may be.
        likeness: By what texts are compared.

    Source:
        Liu et al. (2022), What Makes Good In-Context Examples for GPT-3?, section 3 (nearest neighbours).
    """

    def __init__(
        self, train: Sequence[Example], questions: Sequence[Example], *, room: Room, likeness: Likeness
    ) -> None:
        self._train = sorted(train, key=lambda e: e.id)
        self._questions = {e.id: i for i, e in enumerate(questions)}
        self._texts = [prompt_text(e) for e in (*self._train, *questions)]
        self._room = room
        self._likeness = likeness
        self._vectors: list[Vectors] | None = None
        self._lengths: dict[str, int | None] = {}
        self._shown: dict[str, tuple[Example, ...]] = {}

    def describe(self) -> Mapping[str, object]:
        """Return what the choice depends on, JSON-ready."""
        ids = [e.id for e in self._train]
        return {
            "by": self._likeness.name,
            "shots": self._room.shots,
            "max_shot_tokens": self._room.tokens,
            "train": artifact_id("rows", stage="rows", version=1, config={"ids": ids}, inputs={}),
        }

    def some(self) -> tuple[Example, ...]:
        """Return as many solved examples as a question may get, to measure prompts by."""
        return tuple(self._fitting_of(range(len(self._train)), group=""))

    def shots(self, question: Example) -> tuple[Example, ...]:
        """Return the solved examples of a question, the nearest last; none where none fits.

        Raises:
            KeyError: It is none of the questions.
        """
        if question.id not in self._shown:
            chosen = tuple(self._fitting_of(self._nearest(question), group=question.group))[::-1]
            while chosen and not self._room.fits(question, chosen):
                chosen = chosen[1:]
            self._shown[question.id] = chosen
        return self._shown[question.id]

    def _fitting_of(self, places: Iterable[int], *, group: str) -> Iterator[Example]:
        """Yield the first train rows of an order that fit together, without those of a group."""
        left, count = self._room.tokens, 0
        for place in places:
            example = self._train[place]
            if count == self._room.shots or left <= 0:
                return
            if example.group == group:
                continue
            if example.id not in self._lengths:
                self._lengths[example.id] = self._room.length(example)
            length = self._lengths[example.id]
            if length is not None and length <= left:
                left, count = left - length, count + 1
                yield example

    def _nearest(self, question: Example) -> list[int]:
        """Return the places of all train rows, the most alike first."""
        import numpy as np

        from tunery.text.embeddings import word_vectors

        if self._vectors is None:
            encoder = self._likeness.open
            self._vectors = word_vectors(self._texts) if encoder is None else [encoder()(self._texts)]
        rows, place = len(self._train), len(self._train) + self._questions[question.id]
        total = np.zeros(rows, dtype=np.float32)
        for vectors in self._vectors:
            total += vectors[:rows] @ vectors[place]
        order: list[int] = np.argsort(-total, kind="stable").tolist()
        return order
