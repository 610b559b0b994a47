"""The filter: which of the teacher's rows may enter, each other one with the reason why not."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tunery.core.example import Drop, Example, prompt_text
from tunery.core.figures import percent
from tunery.synthesise.answers import Candidate
from tunery.synthesise.config import SynthesiseConfig
from tunery.synthesise.seeds import RequestSpec, is_synthetic, question
from tunery.text.language import language, script_of
from tunery.text.nearest import NearestIndex

_VALUE = re.compile(r"<[A-Z][A-Z_]+>|\d+(?:[.,:/-]\d+)*")
"""A placeholder of masked data, or a number, an amount, a date."""
_SAMPLE = 500
_MAJORITY = 0.8
"""Share of the texts whose language is known from which it is what others should have."""


class RowFilter:
    """Looks at rows one after the other; what it let through before counts against what repeats it.

    Args:
        config: The settings.
        train: Training rows of the dataset version.
        held_out: Its validation and test rows.
        labels: The classes, empty where outputs are open text.
        group_threshold: Similarity from which curation puts two rows into one split.
    """

    def __init__(
        self,
        config: SynthesiseConfig,
        train: Sequence[Example],
        held_out: Sequence[Example],
        labels: Sequence[str],
        group_threshold: float,
    ) -> None:
        real = [e for e in train if not is_synthetic(e)]
        limit = config.max_similarity
        self._labels = frozenset(labels)
        self._expected = _expected(config, real)
        self._made = NearestIndex()
        self._repeated = (
            ("held_out", "a held-out row", _index(held_out), min(limit, group_threshold)),
            ("repeats_data", "a training row", _index(real), limit),
            ("repeats_other", "an earlier synthetic row", self._made, limit),
        )
        """What a row may not repeat: reason, words, texts, and the similarity from which it does."""

    def reject(self, row: Candidate, spec: RequestSpec) -> Drop | None:
        """Return why a row may not enter; None lets it in and remembers it."""
        drop = self._wrong(row, spec) or self._repeats(row)
        if drop is None:
            self._made.add(row.input)
        return drop

    def _wrong(self, row: Candidate, spec: RequestSpec) -> Drop | None:
        if self._labels and row.output not in self._labels:
            return Drop("unknown_label", f"{row.output!r:.80} is none of the {len(self._labels)} classes")
        if other := foreign(row.input, self._expected):
            return Drop("wrong_language", f"the input {other}")
        if spec.output is not None and len(spec.seeds) == 1:
            lost = _lost_values(row, question(spec.seeds[0]))
            if lost:
                return Drop("lost_value", f"the output needs {', '.join(lost)}, which the new input lacks")
        return None

    def _repeats(self, row: Candidate) -> Drop | None:
        for reason, what, index, limit in self._repeated:
            near = index.nearest(row.input, at_least=limit)
            if near is not None:
                return Drop(reason, f"{percent(near.similarity)} like {what}")
        return None


def _index(examples: Iterable[Example]) -> NearestIndex:
    return NearestIndex(question(e) if e.prompt else prompt_text(e) for e in examples)


def _expected(config: SynthesiseConfig, train: Sequence[Example]) -> Expected:
    if config.language == "auto":
        return expected_in(question(e) for e in train if e.prompt)
    return Expected(None if config.language == "any" else config.language, None)


def _lost_values(row: Candidate, seed_input: str) -> list[str]:
    """Return values that the output takes from the seed's input and the new input no longer has."""
    needed = set(_VALUE.findall(row.output)) & set(_VALUE.findall(seed_input))
    return sorted(needed - set(_VALUE.findall(row.input)))


class Expected(NamedTuple):
    """What language texts should have, as far as it is known."""

    language: str | None
    """Code such as ``en``; None where no language stands out."""
    script: str | None
    """Such as ``LATIN``; None where texts mix scripts, or nothing is expected."""


def expected_in(texts: Iterable[str]) -> Expected:
    """Return what language texts have, judged by all of them together."""
    sample = list(itertools.islice(texts, _SAMPLE))
    counts = Counter(filter(None, map(language, sample)))
    most = counts.most_common(1)
    clear = most and most[0][1] >= _MAJORITY * counts.total()
    return Expected(most[0][0] if clear else None, script_of(" ".join(sample)))


def foreign(text: str, expected: Expected) -> str | None:
    """Return how a text is plainly in another language, or None.

    Another script counts at once, another language where it is certain; short texts rarely are.

    >>> foreign("¿Por qué no está mi tarjeta en la lista de las que tengo?", Expected("en", "LATIN"))
    'reads as es, not en'
    """
    script = script_of(text)
    if script and expected.script and script != expected.script:
        return f"is written in {script.lower()}, not {expected.script.lower()}"
    found = language(text) if expected.language else None
    return f"reads as {found}, not {expected.language}" if found not in (None, expected.language) else None
