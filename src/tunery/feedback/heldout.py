"""Held-out prompts, and whether a conversation repeats one of them, word for word or nearly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from tunery.core.example import Message, messages_text, without_system
from tunery.text.sameness import words_alone


class HeldOutPrompt(NamedTuple):
    """One prompt that the model is measured on."""

    dataset_version: str
    split: str
    example_id: str
    text: str
    """As :func:`~tunery.core.example.prompt_text` gives it."""


class Match(NamedTuple):
    """Which held-out prompt a conversation repeats."""

    kind: Literal["exact", "near"]
    prompt: HeldOutPrompt
    similarity: float
    """Jaccard similarity of character 4-grams in (0, 1]."""


class HeldOutIndex:
    """Finds the held-out prompt most like a conversation; what repeats what is as curation has it.

    Args:
        prompts: What is held out; one that says nothing repeats nothing.
        similarity: Least Jaccard similarity of a near match, in (0, 1]; 1 finds equal texts only.
    """

    def __init__(self, prompts: Iterable[HeldOutPrompt], *, similarity: float) -> None:
        from tunery.text.nearest import NearestIndex  # a server that takes no feedback loads no numpy

        self._similarity = similarity
        self._prompts = [p for p in prompts if words_alone(p.text)]
        self._index = NearestIndex(p.text for p in self._prompts)

    def match(self, messages: Sequence[Message]) -> Match | None:
        """Return the held-out prompt that a conversation repeats, or None.

        A longer conversation also repeats a prompt that it begins with or that one of its user turns is: an
        answer inside it would teach the held-out question all the same.
        """
        turns = without_system(messages)
        texts = {messages_text(turns)}
        for i, turn in enumerate(turns):
            if turn.role == "user":
                texts |= {messages_text(turns[: i + 1]), turn.content}
        found = [m for text in sorted(texts) if (m := self._closest(text))]
        return max(found, key=lambda m: (m.kind == "exact", m.similarity), default=None)

    def _closest(self, text: str) -> Match | None:
        near = self._index.nearest(text, at_least=self._similarity)
        if near is None or (self._similarity >= 1 and not near.exact):
            return None
        return Match("exact" if near.exact else "near", self._prompts[near.position], near.similarity)
