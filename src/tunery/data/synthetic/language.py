"""Language: whether a text is plainly not in the language of the others; in doubt it is."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the of and to is my i you it that was for on are with have this not be at what how can when",
        "de": "der die das und ist ich nicht ein eine mit zu auf wie kann mein meine für wurde habe von den",
        "fr": "le la les des est je pas une et que pour dans mon ma sur avec vous ce il qui comment mes du",
        "es": "el la los las que es una por mi con para no se cómo mis del está he puedo qué lo su pero",
        "it": "il lo gli che è una per mio mia con non sono di della come ho posso nel perché cosa questo ma",
        "pt": "o os que é uma para meu minha com não do da em como eu posso por está um mais foi mas você",
        "nl": "de het een en is ik niet mijn van voor met op dat kan hoe heb wat deze te zijn er maar waarom",
        "sv": "och att det är jag inte en ett min mitt med för på som hur kan har den vad men till mig var",
        "da": "og at det er jeg ikke en et min mit med for på som hvordan kan har den hvad men til mig",
        "pl": "nie jest się na to że do mam moja mój jak dlaczego czy od za ale co po jestem mnie przez tego",
        "cs": "je se na že to jsem mám moje můj jak proč co od za ale po jsou při mi pro nebo když bych být",
        "tr": "bir ve bu için ne nasıl neden benim değil mi var çok ama ile da de olarak daha kadar gibi ben",
    }.items()
}
"""A language's most frequent short words, which hardly any sentence does without."""
_WORD = re.compile(r"[^\W\d_]+")
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL"})
_FEWEST_HITS = 3
_FEWEST_LETTERS = 8
_MOST_OF = 0.6
_SAMPLE = 500


class Expected(NamedTuple):
    """What language texts should have, as far as it could be told."""

    language: str | None
    """Code such as ``en``; None where no known language stands out."""
    script: str | None
    """Such as ``LATIN``; None where texts mix scripts, or nothing is expected."""


def expected_in(texts: Iterable[str]) -> Expected:
    """Return what language texts have, judged by all of them together."""
    sample = " ".join(text for text, _ in zip(texts, range(_SAMPLE), strict=False))
    return Expected(language_of(sample), script_of(sample))


def expected_for(language: str) -> Expected:
    """Return what texts of a language should have; all known languages are written in Latin letters."""
    return Expected(language, "LATIN")


def foreign(text: str, expected: Expected) -> str | None:
    """Return how a text is plainly in another language, or None.

    Another script tells at once. Within one script another language's function words must occur three times,
    and more than twice as often as the expected one's.

    >>> foreign("¿Por qué no está mi tarjeta en la lista?", Expected("en", "LATIN"))
    'reads as es, not en'
    """
    script = script_of(text)
    if script and expected.script and script != expected.script:
        return f"written in {script.lower()}, not {expected.script.lower()}"
    if expected.language is None:
        return None
    hits = _hits(text)
    language, most = hits.most_common(1)[0]
    if language != expected.language and most >= _FEWEST_HITS and most > 2 * hits[expected.language]:
        return f"reads as {language}, not {expected.language}"
    return None


def language_of(text: str) -> str | None:
    """Return the language whose function words clearly occur most, or None.

    >>> language_of("Wie kann ich meine Karte sperren, wenn ich sie nicht mehr habe?")
    'de'
    """
    (first, most), (_, second) = _hits(text).most_common(2)
    return first if most >= _FEWEST_HITS and most > 1.2 * second else None


def _hits(text: str) -> Counter[str]:
    words = Counter(_WORD.findall(text.casefold()))
    return Counter({code: sum(words[w] for w in known) for code, known in FUNCTION_WORDS.items()})


def script_of(text: str) -> str | None:
    """Return the script of most letters, or None for few letters or a mixture; East Asian ones count as one.

    >>> script_of("Где моя карта?")
    'CYRILLIC'
    """
    letters = Counter(ch for ch in text if ch.isalpha())
    scripts: Counter[str] = Counter()
    for ch, count in letters.items():
        name = unicodedata.name(ch, "").partition(" ")[0]
        scripts["EAST-ASIAN" if name in _EAST_ASIAN else name] += count
    if not scripts:
        return None
    script, most = scripts.most_common(1)[0]
    # Eight letters of Latin are one word; in East Asian scripts they are a sentence.
    enough = most >= (_FEWEST_LETTERS if script != "EAST-ASIAN" else 2)
    return script if enough and most >= _MOST_OF * letters.total() else None
