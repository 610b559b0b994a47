"""Text that others wrote, made fit to be looked at.

Escaping is the template's work. This is about what escaping leaves: characters that no file can hold,
that nobody can see, or that turn the reading direction round so that a wrong answer looks right.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from markupsafe import Markup, escape

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_C1 = re.compile("[\x80-\x9f]")
# Zero-width space, word joiner, byte order mark, direction embeddings, overrides and isolates, tag
# characters. The zero-width joiner stays: emoji and several scripts need it.
_UNSEEN = re.compile("[\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_FIGURE = re.compile(r"(?<=[\d,.]) (?=(?:%|points\b|s\b|min\b|h\b))")
_P_VALUE = re.compile(r"\bp (&[lg]t;|=) (?=\d)")
_UNIT = re.compile(r" (?:%|points|s|min|h)(?= |$)")


class Clipped(NamedTuple):
    """A text cut to what a reader needs."""

    text: str
    hidden: int
    """Characters left out [count]."""


def visible(page: str) -> str:
    """Return ``page`` with what cannot be stored or seen replaced by something that can.

    >>> visible("a\\x00b\\u202ec")
    'a␀b⟦U+202E⟧c'
    """
    page = _SURROGATES.sub("\ufffd", page)
    page = _CONTROLS.sub(lambda m: "␡" if m[0] == "\x7f" else chr(0x2400 + ord(m[0])), page)
    page = _C1.sub("\ufffd", page)
    return _UNSEEN.sub(lambda m: f"⟦U+{ord(m[0]):04X}⟧", page)


def clip(text: str, most: int) -> Clipped:
    """Cut ``text`` after ``most`` characters and say how many are missing."""
    return Clipped(text, 0) if len(text) <= most else Clipped(text[:most], len(text) - most)


def unbroken(sentence: str) -> Markup:
    """Return an escaped sentence whose figures keep their units, and p its value, on the same line."""
    # Escaped in the same breath; the patterns only ever replace spaces.
    joined = _FIGURE.sub("\u00a0", str(escape(sentence)))
    return Markup(_P_VALUE.sub("p\u00a0\\1\u00a0", joined))  # noqa: S704


def units_small(figure: str) -> Markup:
    """Return an escaped figure with its units set small, so that the number is what the eye meets."""
    return Markup(_UNIT.sub(r"<small>\g<0></small>", str(escape(figure))))  # noqa: S704 - escaped in the same breath
