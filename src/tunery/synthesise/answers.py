"""Answers: the JSON list that a teacher or a judge wrote."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from tunery.core.example import Drop
from tunery.text.normalise import is_unicode, normalise, says_nothing
from tunery.text.pii.mask import redacted_repr

_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_FENCE = re.compile(r"\A```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?```\Z", re.DOTALL)
_DETAIL_CHARS = 80


class Candidate(NamedTuple):
    """A row that the teacher wrote, not looked at yet."""

    input: str
    output: str


class Malformed(Exception):  # noqa: N818 - carries a reason to whoever counts
    """The answer, or an item of it, is not what was requested."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.drop = Drop(reason, detail)


def json_list(text: str, finish: str) -> list[Any]:
    """Return the JSON list that an answer is, inside a code fence or not, behind a thought or not.

    Args:
        text: The answer.
        finish: Why it ended.

    Raises:
        Malformed: ``cut_off`` where the limit of tokens ended it, ``bad_json`` else.

    >>> json_list('```json\\n["a", "b"]\\n```', "stop")
    ['a', 'b']
    """
    body = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.match(body)
    if fenced:
        body = fenced[1].strip()
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        if finish == "length":
            raise Malformed("cut_off", "the answer reached the limit of tokens; raise max_tokens") from None
        raise Malformed("bad_json", f"the answer is no JSON: {str(error)[:_DETAIL_CHARS]}") from None
    if not isinstance(found, list):
        raise Malformed("bad_json", f"the answer is {redacted_repr(found)}, not a list")
    return found


def text_of(value: Any, what: str) -> str:
    """Return a text of an answer as the teacher gave it.

    Raises:
        Malformed: ``bad_item`` where it is no text, ``empty`` where nothing is in it.
    """
    if not isinstance(value, str):
        raise Malformed("bad_item", f"{what} is {redacted_repr(value)}, not text")
    if not is_unicode(value):
        raise Malformed("bad_item", f"{what} holds half a character: {redacted_repr(value)}")
    if says_nothing(value):
        raise Malformed("empty", f"{what} is empty")
    return value


def candidate_of(item: Any, output: str | None) -> Candidate:
    """Return the row that an item of an answer stands for.

    Args:
        item: A text where the output is known, else an object with ``input`` and ``output``.
        output: What the row's output is, None where the teacher writes it too.

    Raises:
        Malformed: The item is neither.
    """
    if output is not None:
        return Candidate(normalise(text_of(item, "the item")), output)
    if not isinstance(item, dict) or not {"input", "output"} <= item.keys():
        raise Malformed("bad_item", f"the item is {redacted_repr(item)}, not an object with input and output")
    question = normalise(text_of(item["input"], "the input"))
    return Candidate(question, text_of(item["output"], "the output"))


def scores_of(text: str, finish: str, count: int) -> list[int]:
    """Return a judge's scores.

    Raises:
        Malformed: It is not a list of ``count`` whole numbers from 1 to 5.
    """
    found = json_list(text, finish)
    if len(found) != count or any(type(s) is not int or not 1 <= s <= 5 for s in found):
        wanted = f"a list of {count} whole numbers from 1 to 5"
        raise Malformed("bad_json", f"{redacted_repr(found)} is not {wanted}")
    return found
