"""Held-out prompts, and whether a conversation repeats one of them, word for word or nearly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from tunery.core.example import Message, messages_text, without_system
from tunery.text.neighbours import Neighbours
from tunery.text.normalise import fingerprint


class HeldOutPrompt(NamedTuple):
    """One prompt that the model is measured on."""

    dataset_version: str
    split: str
    example_id: str
    text: str


class Match(NamedTuple):
    """Which held-out prompt a conversation repeats."""

    kind: Literal["exact", "near"]
    prompt: HeldOutPrompt
    similarity: float
    """Jaccard similarity of character 4-grams in (0, 1]."""


class HeldOutIndex:
    """Finds the held-out prompt most like a conversation.

    Texts are the same where their fingerprints are, as for the curator that drew the split.

    Args:
        prompts: What is held out.
        similarity: Least Jaccard similarity of a near match, in (0, 1]; 1 finds equal texts only.
    """

    def __init__(self, prompts: Iterable[HeldOutPrompt], *, similarity: float) -> None:
        self._similarity = similarity
        self._exact: dict[str, HeldOutPrompt] = {}
        for prompt in prompts:
            self._exact.setdefault(fingerprint(prompt.text), prompt)
        self._exact.pop("", None)
        self._prompts = tuple(self._exact.values())
        self._neighbours = Neighbours()
        for text in self._exact:
            self._neighbours.add(text)

    def match(self, messages: Sequence[Message]) -> Match | None:
        """Return the held-out prompt that a conversation repeats, or None.

        A longer conversation also repeats a prompt that it begins with or that one of its user turns is: an
        answer inside it would teach the held-out question all the same.
        """
        turns = without_system(messages)
        texts = {fingerprint(messages_text(turns))}
        for i, turn in enumerate(turns):
            if turn.role == "user":
                texts |= {fingerprint(messages_text(turns[: i + 1])), fingerprint(turn.content)}
        found = [m for text in sorted(texts) if (m := self._closest(text))]
        return max(found, key=lambda m: (m.kind == "exact", m.similarity), default=None)

    def _closest(self, text: str) -> Match | None:
        if text in self._exact:
            return Match("exact", self._exact[text], 1.0)
        near = self._neighbours.nearest(text) if text and self._similarity < 1 else None
        if near is None or near.similarity < self._similarity:
            return None
        return Match("near", self._prompts[near.position], near.similarity)
