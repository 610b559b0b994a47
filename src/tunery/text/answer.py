"""What an answer says: its text without accidents of spacing, the label it names, the JSON it holds."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

_INDENTED = re.compile(r"(?: {2,}|[ ]?\t)[ \t]*(?=\S)")
_SAME_LETTERS = re.compile("<(?:compat|noBreak|wide|narrow|isolated|initial|medial|final)>")
"""Compatibility forms that are the same letter, written otherwise; a raised or circled one is not."""


class NotJson(ValueError):  # noqa: N818 - says what the text is
    """The text is not one JSON value."""


def squeeze(text: str) -> str:
    """Return text with outer white space gone, inner runs as one space, and Unicode composed (NFC).

    >>> squeeze("  card   arrival\\n")
    'card arrival'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def same_text(one: str, other: str) -> bool:
    """Return whether two texts are the same letter for letter, spacing aside that a reader would not see.

    Of texts of one line that is every run of space, and space around them but indentation. Of texts of
    several lines it is space at the ends of lines and empty lines around them: indentation and line breaks
    count, as they do in code. Case, punctuation and everything else counts.

    >>> same_text(" card  arrival\\n", "card arrival"), same_text("if x:\\n  y()", "if x:\\ny()")
    (True, False)
    """
    return one == other or _spaced(one) == _spaced(other)


def _spaced(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        del lines[0]
    if len(lines) > 1:
        return "\n".join(lines)
    indent = _INDENTED.match(lines[0]) if lines else None
    return (indent.group() if indent else "") + " ".join(text.split())


def fold(text: str) -> str:
    """Return :func:`squeeze` of text without regard to case and to how letters are drawn: wide, in ligatures.

    Small raised letters, fractions and circled numbers stay what they are: ``m²`` is not ``m2``.

    >>> fold("TAN  WOON Yann")
    'tan woon yann'
    """
    # Twice, as the Unicode standard defines a caseless match (section 3.13, D145): folding case can uncover a
    # form that composes, and composing one that folds.
    for _ in range(2):
        text = unicodedata.normalize("NFC", text.casefold())
        if not text.isascii():
            text = "".join(map(_plain_letter, text))
    return " ".join(unicodedata.normalize("NFC", text).split())


@lru_cache(maxsize=4096)
def _plain_letter(character: str) -> str:
    if not _SAME_LETTERS.match(unicodedata.decomposition(character)):
        return character
    return unicodedata.normalize("NFKC", character)


def read_json(text: str) -> Any:
    """Return the one JSON value that ``text`` is, as strictly as a program that receives it would read it.

    Nothing is repaired: a code fence, a sentence before the object or a second value after it is not JSON.
    Nor is an object that gives one key two values, of which programs take one or the other.

    Raises:
        NotJson: It does not parse, holds ``NaN`` or ``Infinity``, a key twice, or is nested too deeply.
    """
    try:
        return _STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None


def _refuse_constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) and any(found[key] != value for key, value in pairs):
        raise NotJson("a key has two values")
    return found


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)
"""Made once: ``json.loads`` with an argument makes one for every text, which takes longer than reading."""


class LabelReader:
    """Tells which label of a closed set an answer names.

    An answer names a label when it is that label, or when it is once case, spacing, ``_`` or ``-`` between
    letters in place of a space, and what answers are dressed in are disregarded: quotes, asterisks or
    backticks around it, a full stop behind it. Only the answer is undressed: of ``-5``, ``n!`` or ``C++``
    every sign counts. An answer that holds more than the label names none: whoever calls the model would have
    to search it. Labels that differ in nothing but what is disregarded are told apart exactly.

    Args:
        labels: The closed set.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._given = frozenset(labels)
        self._exact = _told_apart(self.labels, squeeze)
        self._loose = _told_apart(self.labels, _loose)

    def read(self, answer: str) -> str | None:
        """Return the label that ``answer`` names, or None; an empty answer names none.

        >>> LabelReader(["card_arrival", "refund"]).read("Card arrival.")
        'card_arrival'
        """
        for given in (answer, answer.strip()):
            if given in self._given:
                return given
        if (squeezed := squeeze(answer)) in self._exact:
            return self._exact[squeezed]
        return next(
            (self._loose[form] for form in map(_loose, _undressed(squeezed)) if form in self._loose), None
        )


def _told_apart(labels: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    """Return the labels by a key, those that share one left out: a loose match may not confuse them."""
    found: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        found.setdefault(key(label), []).append(label)
    return {form: names[0] for form, names in found.items() if form and len(names) == 1}


_JOINT = re.compile(r"(?<=[^\W\d_])[-_]+(?=[^\W\d_])|(?<=[^\W_])_+(?=[^\W_])")
_PAIRS = ("**", "*", "`", '"', "'", "\u201c\u201d", "\u2018\u2019")
_CLOSING = re.compile(r"(?<=\w)[.,:;]+\Z|(?<=[^\W\d_][^\W\d_])!+\Z|(?<=[^.])\.\Z")
_BULLET = re.compile(r"[-*\u2022] (?=[^\W\d_])")


def _loose(text: str) -> str:
    return " ".join(_JOINT.sub(" ", fold(text)).split())


def _undressed(text: str) -> Iterator[str]:
    """Yield an answer as it is, then with one piece of dress after the other taken off."""
    before = None
    while text and text != before:
        yield text
        before, text = text, _undressed_once(text)


def _undressed_once(text: str) -> str:
    for pair in _PAIRS:
        opened, closed = (pair, pair) if len(set(pair)) == 1 else (pair[0], pair[1])
        inner = text[len(opened) : len(text) - len(closed)]
        if text.startswith(opened) and text.endswith(closed) and any(c.isalnum() for c in inner):
            return inner.strip()
    bullet = _BULLET.match(text)
    return text[bullet.end() :] if bullet else _CLOSING.sub("", text)
