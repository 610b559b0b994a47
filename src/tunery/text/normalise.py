"""Normalise: repair what differs only invisibly, with the kind of every change."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from hashlib import blake2b
from types import MappingProxyType

from tunery.core.example import Example, prompt_text
from tunery.text.sameness import words_alone

# Controls that show nothing, zero-width space and word joiner, byte-order mark, soft hyphen. Escape (colours
# of a terminal) and form feed mean something; so do the zero-width joiners, in emoji and several scripts.
INVISIBLE = "\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\x80-\x84\x86-\x9f\u200b\u2060\ufeff\u00ad"
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
# Not the ideographic space and the ogham mark, which readers of those scripts see.
_ODD_SPACE = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
_LINE_END = re.compile("\r\n?|\u2028|\u2029|\x85")
_NOTICEABLE = re.compile("[^\t\n -~]")
"""What no text has that only its ends can change; a search that most texts pass."""
_NOTHING = re.compile(f"[\\s{INVISIBLE}]*")


def _without_ends(text: str) -> str:
    """Return a text of one line without space at its ends; of several lines ends are part of the layout."""
    bare = text.strip()
    return text if "\n" in bare else bare


UNICODE_FORM, LINE_ENDS, INVISIBLE_CHARACTERS = "unicode form", "line ends", "invisible characters"
ODD_SPACES, ENDS = "unusual spaces", "spaces at the ends"
_REPAIRS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        LINE_ENDS: lambda text: _LINE_END.sub("\n", text),
        INVISIBLE_CHARACTERS: lambda text: _INVISIBLE.sub("", text),
        ODD_SPACES: lambda text: _ODD_SPACE.sub(" ", text),
        ENDS: _without_ends,
        UNICODE_FORM: lambda text: unicodedata.normalize("NFC", text),
    }
)
"""Kind of change to what makes it, in the order in which they are made."""


def normalise(text: str, *, ends: bool = True) -> str:
    """Return text with invisible differences removed; what a reader or a program would miss stays.

    Line ends become ``\\n``, odd spaces plain ones, Unicode NFC (letters composed), and a text of one line
    loses the space around it. Spaces at the ends of lines and between words, blank lines and indentation are
    kept: patches, code, tables and Markdown need them. Normalising twice changes nothing.

    Args:
        text: Any text.
        ends: Whether space around a line may go; False where what follows continues it.

    >>> normalise("  Cafe\\u0301\\u00a0au lait \\r\\n")
    'Café au lait'
    """
    return normalised(text, ends=ends)[0]


def normalised(text: str, *, ends: bool = True) -> tuple[str, tuple[str, ...]]:
    """Return what :func:`normalise` makes of a text, and the kinds of changes that took place.

    >>> normalised("a\\r\\nb")
    ('a\\nb', ('line ends',))
    """
    if not _NOTICEABLE.search(text) and not (text[:1].isspace() or text[-1:].isspace()):
        return text, ()
    kinds = []
    for kind, repair in _REPAIRS.items():
        before = text
        if ends or kind != ENDS:
            text = repair(text)
        if text != before:
            kinds.append(kind)
    return text, tuple(kinds)


def says_nothing(text: str) -> bool:
    """Tell whether a text holds no more than white space and characters that nobody sees."""
    return _NOTHING.fullmatch(text) is not None


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
    """Return 16 hex digits that name a prompt, whatever its case, spacing and punctuation.

    Rows that a teacher wrote keep it of their seeds, so it never changes.
    """
    return f"{hash64(words_alone(prompt_text(example))):016x}"
