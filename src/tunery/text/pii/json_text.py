"""JSON as personal data is found and replaced in it: escapes part words, and numbers get quotes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|["\\/bfnrt])')
_MEANT = {'"': '"', "/": "/", "n": "\n", "r": "\n", "t": "\t"}
# A quote that opens or closes a string: an even number of backslashes stands before it.
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMERIC = frozenset("0123456789+-.eE")


def is_json(text: str) -> bool:
    """Tell whether a text is one JSON object or list."""
    if text[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def without_escapes(text: str) -> str:
    r"""Return a text of the same length in which an escape parts or joins words as what it stands for.

    >>> without_escapes(r"Card:\n4111") == "Card: \n4111", without_escapes(r"M\u00fcller")
    (True, 'Mxxxxxxller')
    """
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_stand_in, text)


def _stand_in(match: re.Match[str]) -> str:
    code = match[1]
    if code is None:
        return " " + _MEANT.get(match[0][1], " ")
    return ("x" if chr(int(code, 16)).isalnum() else " ") * len(match[0])


def quoted_numbers(
    text: str, places: Sequence[tuple[int, int]], replacements: Sequence[str]
) -> Iterator[tuple[int, int, str]]:
    """Yield what is to stand where in JSON: a number that becomes something else gets quotes around it.

    Args:
        text: JSON.
        places: (start, end) in it, sorted, none overlapping.
        replacements: Beside them.
    """
    at, inside = 0, False
    for (start, end), new in zip(places, replacements, strict=True):
        if start < at:  # a second place in one number, which went with the first
            continue
        inside ^= len(_QUOTE.findall(text, at, start)) % 2 == 1
        at = start
        if inside:
            yield start, end, new
            continue
        first, last = start, end
        while first and text[first - 1] in _NUMERIC:
            first -= 1
        while last < len(text) and text[last] in _NUMERIC:
            last += 1
        number = text[first:start] + new + text[end:last]
        yield first, last, number if _NUMBER.fullmatch(number) else f'"{number}"'
        at = last
