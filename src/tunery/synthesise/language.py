"""Whether a text that a teacher wrote is plainly not in the language of the others; in doubt it is."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tunery.text.language import language, script_of

_SAMPLE = 500
_MAJORITY = 0.8
"""Share of the texts whose language is known from which it is what others should have."""


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
        return f"written in {script.lower()}, not {expected.script.lower()}"
    if expected.language is None:
        return None
    found = language(text)
    if found is not None and found != expected.language:
        return f"reads as {found}, not {expected.language}"
    return None
