"""Normalise: repair what differs only invisibly, and make the fingerprint that repeats are found by."""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b

from tunery.core.example import Example, prompt_text

# Controls except tab and newline, zero-width space and word joiner, byte-order mark, soft hyphen. The
# zero-width joiners stay: emoji and several scripts need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\u200b\u2060\ufeff\u00ad]")
_ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_LINE_END = re.compile("\r\n?|\u2028|\u2029|\x85")
_TRAILING = re.compile(r"(?<![ \t])[ \t]+(?=\n)")
GAP = re.compile(r"\n{3,}")
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
    text = GAP.sub("\n\n", _TRAILING.sub("", text))
    return unicodedata.normalize("NFC", text.strip())


def fingerprint(text: str) -> str:
    """Return what two texts have in common when they differ only in case, spacing or punctuation.

    Compatibility forms are folded (NFKC), case is folded, punctuation becomes a space. Currency, percent and
    mathematical signs stay, as do point, comma and minus before a digit: ``£5``, ``€5`` and ``-5`` differ.
    So do pictures, and the vowel signs that many scripts write as marks.

    >>> fingerprint("Where's my Card?") == fingerprint("where s my card")
    True
    >>> fingerprint("-5") == fingerprint("5")
    False
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = _MARK.sub(" " if folded.isascii() else _meaningful, folded)
    return " ".join(plain.split())


_PICTURE_FORMS = "\ufe0e\ufe0f"
"""Say whether a sign is drawn as text or as a picture."""


def _meaningful(match: re.Match[str]) -> str:
    """Keep pictures (So) and marks that are part of a letter (Mn, Mc); all else becomes a space."""
    kept = (
        c if unicodedata.category(c) in ("So", "Mn", "Mc") and c not in _PICTURE_FORMS else " "
        for c in match.group()
    )
    return "".join(kept)


def fix_mojibake(text: str) -> str:
    """Return text with wrong decoding undone: what was UTF-8 and was read as something else.

    ``ftfy`` changes a text only where the repaired one is much likelier. Plain ASCII never shows this trouble
    and costs nothing.

    Source:
        Speer (2019), ftfy, https://ftfy.readthedocs.io.

    >>> fix_mojibake("The Mona Lisa doesnâ€™t have eyebrows.")
    'The Mona Lisa doesn’t have eyebrows.'
    """
    if text.isascii():
        return text
    import ftfy

    return ftfy.fix_encoding(text)


HALF_A_PAIR = "half a surrogate pair; write the whole character"
"""What to do about text that is not Unicode."""


def is_unicode(text: str) -> bool:
    """Tell whether text can be written as UTF-8: it holds no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def hash64(*parts: str) -> int:
    """Return 64 bits that tell texts apart: two of a million rows clash once in 37 million datasets."""
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def prompt_fingerprint(example: Example) -> str:
    """Return 16 hex digits that name a prompt, whatever its case, spacing and punctuation."""
    return f"{hash64(fingerprint(prompt_text(example))):016x}"
