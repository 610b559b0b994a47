"""What an answer says: its text without accidents of spacing, the label it names, the JSON it holds."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

_DECORATION = " \t\n.,:;!\"'`*"


class NotJson(ValueError):  # noqa: N818 - says what the text is
    """The text is not one JSON value."""


def squeeze(text: str) -> str:
    """Return text with outer white space gone, inner runs as one space, and Unicode composed (NFC).

    >>> squeeze("  card   arrival\\n")
    'card arrival'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def same_text(one: str, other: str) -> bool:
    """Return whether two texts are the same letter for letter, once :func:`squeeze` took out the spacing.

    Case, punctuation and everything else counts.
    """
    return squeeze(one) == squeeze(other)


def fold(text: str) -> str:
    """Return :func:`squeeze` of text without regard to case and compatibility forms (NFKC).

    >>> fold("TAN  WOON Yann")
    'tan woon yann'
    """
    # Twice, as the Unicode standard defines a compatibility caseless match (section 3.13, D146): folding
    # case can uncover a form that composes, and composing one that folds.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.split())


def read_json(text: str) -> Any:
    """Return the one JSON value that ``text`` is, as strictly as a program that receives it would read it.

    Nothing is repaired: a code fence, a sentence before the object or a second value after it is not JSON.

    Raises:
        NotJson: It does not parse, holds ``NaN`` or ``Infinity``, or is nested too deeply.
    """
    try:
        return _STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None


def _refuse_constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant)
"""Made once: ``json.loads`` with an argument makes one for every text, which takes longer than reading."""


class LabelReader:
    """Tells which label of a closed set an answer names.

    An answer names a label when it is that label, or when it is once case, surrounding quotes and
    punctuation, and ``_`` or ``-`` in place of a space are disregarded. An answer that holds more than the
    label names none: whoever calls the model would have to search it. Labels that differ in nothing but
    what is disregarded are told apart exactly.

    Args:
        labels: The closed set.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._exact = {squeeze(label): label for label in self.labels}
        loose: dict[str, list[str]] = {}
        for label in self.labels:
            loose.setdefault(_loose(label), []).append(label)
        self._loose = {key: names[0] for key, names in loose.items() if len(names) == 1}

    def read(self, answer: str) -> str | None:
        """Return the label that ``answer`` names, or None.

        >>> LabelReader(["card_arrival", "refund"]).read("Card arrival.")
        'card_arrival'
        """
        return self._exact.get(squeeze(answer)) or self._loose.get(_loose(answer))


def _loose(text: str) -> str:
    words = fold(text).strip(_DECORATION).replace("_", " ").replace("-", " ")
    return " ".join(words.split())
