"""A pattern: a form, what must hold of it, and what a text must have to be worth searching."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from tunery.data.config import PiiType


class Hit(NamedTuple):
    """Which part of a match is the thing itself."""

    start: int
    end: int
    score: float


class Pattern(NamedTuple):
    """How one kind of personal data is written."""

    type: PiiType
    cue: str
    """What a text must hold: ``@``, ``/`` for ``://`` or ``www.``, ``0`` for a digit, ``6`` for six close
    together; nothing where empty."""
    regex: re.Pattern[str]
    """Its group ``value`` is what is looked at; all of the match where there is no such group."""
    check: Callable[[str], Hit | None]
    words: tuple[str, ...] = ()
    """Of which the text, in small letters, must hold one; none asked for where empty."""


def checked(holds: Callable[[str], bool], score: float) -> Callable[[str], Hit | None]:
    """Return a check that takes the whole match where ``holds`` says so.

    Forms match in other alphabets too (``ſ`` for s, Arabic digits); no number is written in those.
    """
    return lambda text: Hit(0, len(text), score) if text.isascii() and holds(text) else None
