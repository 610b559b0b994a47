"""Held-out prompts, and whether a conversation repeats one of them, word for word or nearly."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from tunery.core.example import Message

_GRAM = 4
_NOT_WORD = re.compile(r"[\W_]+")


class HeldOutPrompt(NamedTuple):
    """One prompt that the model is measured on."""

    dataset_version: str
    split: str
    example_id: str
    text: str
    """Normalised, see :func:`normalise`."""


class Match(NamedTuple):
    """Which held-out prompt a conversation repeats."""

    kind: Literal["exact", "near"]
    prompt: HeldOutPrompt
    similarity: float
    """Jaccard similarity of character 4-grams in (0, 1]."""


def normalise(text: str) -> str:
    """Return text without what a copy may change: case, width, punctuation and spaces.

    >>> normalise("  My CARD hasn't arrived… ")
    'my card hasn t arrived'
    """
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def prompt_text(messages: Iterable[Message]) -> str:
    """Return a conversation's normalised text; the system turn, which every example shares, is left out."""
    return normalise("\n".join(m.content for m in messages if m.role != "system"))


class HeldOutIndex:
    """Finds the held-out prompt most like a conversation.

    Near matches are exact, not sampled: two sets with Jaccard similarity of at least ``t`` share one of their
    ``|x| - ceil(t |x|) + 1`` rarest members, so only prompts that share a rare 4-gram are compared.

    Args:
        prompts: What is held out.
        similarity: Least Jaccard similarity of a near match, in (0, 1]; 1 finds equal texts only.

    Source:
        Bayardo, Ma and Srikant (2007), Scaling up all pairs similarity search, WWW, 131-140 (the prefix
        bound).
    """

    def __init__(self, prompts: Iterable[HeldOutPrompt], *, similarity: float) -> None:
        self._similarity = similarity
        self._exact: dict[str, HeldOutPrompt] = {}
        for prompt in prompts:
            if prompt.text:
                self._exact.setdefault(prompt.text, prompt)
        self._grams = {text: grams(text) for text in self._exact}
        self._frequency = Counter(g for members in self._grams.values() for g in members)
        self._by_gram: defaultdict[str, list[str]] = defaultdict(list)
        for text, members in self._grams.items():
            for gram in self._rarest(members):
                self._by_gram[gram].append(text)

    def __len__(self) -> int:
        return len(self._exact)

    def match(self, messages: Sequence[Message]) -> Match | None:
        """Return the held-out prompt that a conversation repeats, or None.

        A longer conversation also repeats a prompt that it begins with or that one of its user turns is: an
        answer inside it would teach the held-out question all the same.
        """
        turns = [m for m in messages if m.role != "system"]
        texts = {prompt_text(turns)}
        for i, turn in enumerate(turns):
            if turn.role == "user":
                texts |= {prompt_text(turns[: i + 1]), normalise(turn.content)}
        found = [m for text in sorted(texts) if (m := self._closest(text))]
        return max(found, key=lambda m: (m.kind == "exact", m.similarity), default=None)

    def _closest(self, text: str) -> Match | None:
        if text in self._exact:
            return Match("exact", self._exact[text], 1.0)
        if self._similarity >= 1 or not text:
            return None
        mine = grams(text)
        candidates = {other for gram in self._rarest(mine) for other in self._by_gram.get(gram, ())}
        scored = [(jaccard(mine, self._grams[other]), other) for other in sorted(candidates)]
        best, other = max(scored, default=(0.0, ""))
        return Match("near", self._exact[other], best) if best >= self._similarity else None

    def _rarest(self, members: frozenset[str]) -> list[str]:
        # The rounding keeps 0.8 * 5 from becoming 4.000000000000001 and losing a member.
        share = math.ceil(round(self._similarity * len(members), 9))
        ordered = sorted(members, key=lambda g: (self._frequency[g], g))
        return ordered[: len(members) - share + 1]


def grams(text: str) -> frozenset[str]:
    """Return the character 4-grams of a text; a shorter text is its own only member."""
    return frozenset(text[i : i + _GRAM] for i in range(max(1, len(text) - _GRAM + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the share of members that two sets have in common, in [0, 1]."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
