"""What the name model sees of a text: its tokens, and hashed features of each one's form."""

from __future__ import annotations

import gzip
import re
import zlib
from functools import cache
from importlib.resources import files

TOKEN = re.compile(r"[^\W\d_]+(?:['’](?![sS]\b)[^\W\d_]+)*|\d+|\n|[^\w\s]|_")
"""A run of letters (with inner apostrophes, but without a genitive 's), a run of digits, one other mark."""

BUCKETS = 1 << 15
"""Rows of the embedding table; features share them by hash."""

GAZETTEER = {"first": 1, "last": 2, "city": 4, "country": 8, "street": 16, "company": 32}
"""What a word of the shipped lists can be part of; the bits are added."""


@cache
def gazetteer() -> dict[str, int]:
    """Return lower-case word to the bits of ``GAZETTEER`` it has.

    Source:
        ``scripts/pii/gazetteer.py`` writes the file from the lists of Faker (MIT) and GeoNames (CC BY 4.0).
    """
    packed = files("tunery.text.pii").joinpath("gazetteer.txt.gz").read_bytes()
    lists: dict[str, int] = {}
    for line in gzip.decompress(packed).decode().splitlines():
        bits, _, words = line.partition("\t")
        lists.update(dict.fromkeys(words.split(" "), int(bits)))
    return lists


@cache
def countries() -> frozenset[str]:
    """Return names of countries, unions and continents, in small letters, without an article."""
    return frozenset(files("tunery.text.pii").joinpath("countries.txt").read_text("utf-8").split("\n"))


def letter_case(text: str) -> str:
    """Return ``l`` for a text without capitals, ``u`` for one without small letters, ``m`` for others."""
    if text.islower():
        return "l"
    return "u" if text.isupper() else "m"


def _shape(word: str) -> str:
    if word.isdigit():
        return f"d{min(len(word), 10)}"
    if not word[0].isalpha():
        return "p"
    if word.islower():
        return "x"
    if word.isupper():
        return "X" if len(word) > 1 else "I"
    return "Xx" if word.istitle() else "xX"


def features(word: str, case: str, lists: dict[str, int]) -> list[str]:
    """Return a token's features: the word, its ends and trigrams, its shape, the lists that hold it.

    The first is the word itself and those from ``lists`` begin with ``g=``: training hides them now and then,
    so that the model also learns to do without.
    """
    low = word.lower()
    shape = _shape(word)
    if not low[0].isalpha():
        found = ["w=" + (low if len(low) < 3 else "#"), f"s={shape}", f"s={shape}{case}"]
        if low.isdigit():
            found.append("d=" + low[:2])
        return found
    bits = lists.get(low, 0)
    found = [
        "w=" + low,
        f"s={shape}{case}",
        f"n={min(len(low), 12)}{shape}",
        "a=" + low[:3],
        "a=" + low[:2],
        "z=" + low[-2:],
        "z=" + low[-3:],
        "z=" + low[-4:],
        f"g={bits}",
        f"g={bits}{shape}{case}",
    ]
    found += [f"g={bits & bit}of" for bit in GAZETTEER.values()]
    if not low.isascii():
        found.append("na")
    framed = f"<{low}>"
    found += ["t=" + framed[i : i + 3] for i in range(min(len(framed) - 2, 12))]
    return found


def bucket(feature: str) -> int:
    """Return a feature's row of the embedding table."""
    return zlib.crc32(feature.encode()) % BUCKETS
