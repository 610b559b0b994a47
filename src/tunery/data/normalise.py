"""Normalise: repair what differs only invisibly, and make the fingerprint that repeats are found by."""

from __future__ import annotations

import re
import unicodedata

# Controls except tab and newline, zero-width space and word joiner, byte-order mark, soft hyphen. The
# zero-width joiners stay: emoji and several scripts need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u200b\u2060\ufeff\u00ad]")
_ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_LINE_END = re.compile("\r\n?|\u2028|\u2029|\x85")
_TRAILING = re.compile(r"[ \t]+(?=\n)")
_GAP = re.compile(r"\n{3,}")
# Marks that change no meaning: neither signs (£, %, +, =, <, #) nor a point, comma, colon or minus that
# stands before a digit.
_MARK = re.compile(r"[^\w\s$¢£¥€₹%+=<>*/^~|@#&°.,:−-]+|[.,:−-]+(?!\d)|_")


def normalise(text: str) -> str:
    """Return text with invisible differences removed; what a reader sees stays as it was.

    Unicode becomes NFC (letters composed), line ends ``\\n``, odd spaces plain ones. Spaces inside a line are
    kept, because they carry meaning in code and tables. Normalising twice changes nothing.

    >>> normalise("  Cafe\\u0301\\u00a0au lait \\r\\n")
    'Café au lait'
    """
    text = _LINE_END.sub("\n", text)
    text = _ODD_SPACE.sub(" ", _INVISIBLE.sub("", text))
    text = _GAP.sub("\n\n", _TRAILING.sub("", text))
    return unicodedata.normalize("NFC", text.strip())


def fingerprint(text: str) -> str:
    """Return what two texts have in common when they differ only in case, spacing or punctuation.

    Compatibility forms are folded (NFKC), case is folded, punctuation becomes a space. Currency, percent and
    mathematical signs stay, as do point, comma and minus before a digit: ``£5``, ``€5`` and ``-5`` differ.

    >>> fingerprint("Where's my Card?") == fingerprint("where s my card")
    True
    >>> fingerprint("-5") == fingerprint("5")
    False
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_MARK.sub(" ", folded).split())
