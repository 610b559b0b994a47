"""Language: which one a text is in, and which script; None where it is not clear."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_LEAST_LETTERS = 25
"""Fewer letters are not told apart reliably [characters]."""
_SURE = 0.9
"""Of 2,241 short English questions seven were taken for another language, the surest at 0.82."""
_READ = 120
"""Letters after these tell nothing new [characters]."""
_WORD = re.compile(r"[^\W\d_]+")
_SIGN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL"})
_FEWEST_LETTERS = 8
_MOST_OF = 0.6


def language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language; None where it is not clear.

    >>> language("Where is the card that you sent to me last week?")
    'en'
    >>> language("x = f(y)") is None
    True
    """
    piece = text[: 2 * _READ]
    if "```" in piece:
        return None
    words = _WORD.findall(piece)
    # A Chinese or Japanese sign says as much as three letters, a Korean one as two or three.
    letters = sum(map(len, words)) + (0 if piece.isascii() else 2 * len(_SIGN.findall(piece)))
    # Tables, code and sums have few letters between their signs.
    if letters < _LEAST_LETTERS or letters < 0.65 * len(piece):
        return None
    name, sure = _identifier().classify(" ".join(words)[:_READ])
    return str(name) if sure >= _SURE else None


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


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
