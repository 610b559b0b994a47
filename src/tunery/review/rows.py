"""Rows for a judge from files: what people labelled, and answers of two systems beside their questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError
from tunery.core.example import Example, Message
from tunery.core.ids import sha256_text
from tunery.evaluate.judges.prompts import HIGHEST, LOWEST
from tunery.evaluate.pairing import Row, pair_rows
from tunery.evaluate.readers.files import load
from tunery.review.check import LabelledAnswer, LabelledPair
from tunery.review.pairwise import Pair, Winner

Prompts = Mapping[str, tuple[Message, ...]]
Labels = list[LabelledPair] | list[LabelledAnswer]
_SHOWN = 20
_PREFERRED: Mapping[str, Winner] = {"a": "a", "b": "b", "tie": "tie", "both": "tie", "equal": "tie"}
_FORMS = (
    'rows need "prompt" (or "messages") and either "a", "b" and "preferred" (a, b or tie), or "chosen" and '
    '"rejected", or "answer" and "score" (1 to 5)'
)


def read_labels(path: Path) -> Labels:
    """Read what people said of pairs of answers, or of single answers.

    A pair of ``chosen`` and ``rejected`` is put in an order by chance, the same in every call, so that the
    preferred answer is A as often as B.

    Raises:
        ConfigError: The file cannot be read, holds both kinds, or has bad rows; lists them.
    """
    problems: list[str] = []
    found: list[LabelledPair | LabelledAnswer] = []
    for number, value in load(path, problems):
        try:
            found.append(_label(value, number))
        except ValueError as error:
            problems.append(f"row {number}: {error}")
    if problems:
        raise ConfigError.of_problems(str(path), problems, limit=_SHOWN, hint=_FORMS)
    pairs = [row for row in found if isinstance(row, LabelledPair)]
    answers = [row for row in found if isinstance(row, LabelledAnswer)]
    if not found or (pairs and answers):
        raise ConfigError(f"{path}: holds {'both kinds of labels' if found else 'no rows'}", hint=_FORMS)
    return pairs or answers


def labels_of(examples: Sequence[Example]) -> list[LabelledPair]:
    """Return preference pairs as pairs that people labelled."""
    return [
        _in_some_order(Pair(e.id, e.prompt, e.reference, e.rejected, cluster=e.group))
        for e in examples
        if e.rejected is not None
    ]


def prompts_in(path: Path) -> dict[str, tuple[Message, ...]]:
    """Return the questions that a file of answers tells, by row id."""
    found = {}
    for _, value in load(path, []):
        if isinstance(value, Mapping) and "id" in value and (prompt := _prompt(value)):
            found[str(value["id"])] = prompt
    return found


def pairs_of(a: Sequence[Row], b: Sequence[Row], prompts: Prompts, names: tuple[str, str]) -> list[Pair]:
    """Return the rows that two systems answered, each with its question.

    Raises:
        ConfigError: The systems share no row, or a row lacks its question or an answer.
    """
    pairs, problems = [], []
    for x, y in pair_rows(a, b, names).pairs:
        if x.id not in prompts:
            problems.append(f"id {x.id!r:.80}: no file says what was asked")
        elif x.prediction is None or y.prediction is None:
            problems.append(f"id {x.id!r:.80}: has no answer in {names[0 if x.prediction is None else 1]}")
        else:
            cluster = x.cluster or y.cluster
            reference = x.reference if x.reference is not None else y.reference
            pairs.append(Pair(x.id, prompts[x.id], x.prediction, y.prediction, reference, cluster))
    if problems:
        hint = 'write the question into either file, as "prompt" or "messages"'
        raise ConfigError.of_problems(" and ".join(names), problems, limit=_SHOWN, hint=hint)
    return pairs


def _label(value: Any, number: int) -> LabelledPair | LabelledAnswer:
    if not isinstance(value, Mapping):
        raise ValueError("not a JSON object")
    prompt, identity = _prompt(value), str(value.get("id", f"row {number}"))
    if not prompt:
        raise ValueError('has no "prompt" and no "messages"')
    cluster = None if value.get("cluster") is None else str(value["cluster"])
    reference = value.get("reference") if isinstance(value.get("reference"), str) else None
    if "score" in value:
        answer, score = _text(value, "answer"), value["score"]
        if isinstance(score, str) and score.strip().isdecimal():
            score = int(score)
        if isinstance(score, bool) or score not in range(LOWEST, HIGHEST + 1):
            raise ValueError(
                f'"score" is {value["score"]!r:.40}, not a whole number from {LOWEST} to {HIGHEST}'
            )
        return LabelledAnswer(identity, prompt, answer, int(score), reference, cluster)
    if "preferred" in value:
        said = str(value["preferred"]).strip().casefold()
        if said not in _PREFERRED:
            raise ValueError(f'"preferred" is {value["preferred"]!r:.40}, not a, b or tie')
        pair = Pair(identity, prompt, _text(value, "a"), _text(value, "b"), reference, cluster)
        return LabelledPair(pair, _PREFERRED[said])
    if "chosen" in value:
        better, worse = _text(value, "chosen"), _text(value, "rejected")
        return _in_some_order(Pair(identity, prompt, better, worse, reference, cluster))
    raise ValueError("says nothing of what people thought")


def _in_some_order(pair: Pair) -> LabelledPair:
    """Return a pair whose A people preferred, its answers swapped or not by a hash of them."""
    swapped = int(sha256_text(pair.content[0]), 16) % 2
    return LabelledPair(pair._replace(a=pair.b, b=pair.a) if swapped else pair, "b" if swapped else "a")


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if name == "answer" and text is None:
        text = value.get("prediction")
    if not isinstance(text, str):
        raise ValueError(f'"{name}" is {text!r:.40}, not text')
    return text


def _prompt(value: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return a row's question; empty where it has none that can be read."""
    messages, text = value.get("messages"), value.get("prompt", value.get("question", value.get("input")))
    if isinstance(messages, list) and messages:
        try:
            return tuple(Message(role=turn["role"], content=turn["content"]) for turn in messages)
        except (ValueError, TypeError, KeyError):
            return ()
    if isinstance(text, str) and text.strip():
        return (Message(role="user", content=text),)
    return ()
