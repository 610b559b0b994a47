"""Reviewed rows: several people's answers brought to one, and put where shapes look for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.ids import canonical_json
from tunery.data.config import SourceConfig
from tunery.data.conversations.shapes import wanted_columns
from tunery.data.rows.refused import unusable
from tunery.data.rows.row import RawRow

METADATA = "metadata."
"""Before the name of what reviewers did not see."""
_PROMPT_FIELDS = ("text", "input", "prompt", "instruction", "question", "query")


class Agreement(NamedTuple):
    """What reviewers answered to one question."""

    value: Any
    """The answer most of them gave; None where two answers were given equally often."""
    votes: int
    """How many gave it [count]."""
    reviewers: int
    """How many answered [count]."""


def majority(values: Sequence[Any]) -> Agreement:
    """Return the answer that most reviewers gave.

    >>> majority(["refund", "refund", "card"])
    Agreement(value='refund', votes=2, reviewers=3)
    >>> majority(["refund", "card"]).value is None
    True
    """
    keys = [_key(v) for v in values]
    ranked = Counter(keys).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return Agreement(None, ranked[0][1], len(values))
    winner, votes = ranked[0]
    return Agreement(values[keys.index(winner)], votes, len(values))


def _key(value: Any) -> str:
    try:
        return canonical_json(value)
    except (TypeError, ValueError):
        return repr(value)


def reviewed_row(
    number: int, fields: Mapping[str, Any], given: Iterable[tuple[str, Any]], settings: SourceConfig
) -> RawRow:
    """Return one reviewed record as a row: its fields, and each question's agreed answer under its name.

    Where the recipe maps no columns, one question and one text leave no doubt which is the prompt and which
    the answer: they become ``input`` and ``output``. A question named as a field goes by ``<name>.answer``.

    Args:
        number: Of the row.
        fields: What reviewers saw.
        given: Question and answer, of every reviewer who submitted one; an empty text is none.
        settings: Of the source.
    """
    answers: dict[str, list[Any]] = {}
    for question, answer in given:
        if answer is not None and answer != "":
            answers.setdefault(question, []).append(answer)
    if not answers:
        return unusable(number, "not_reviewed", "nobody submitted an answer", dict(fields))
    agreements = {question: majority(values) for question, values in answers.items()}
    split = [q for q, v in agreements.items() if v.value is None]
    if split:
        first = agreements[split[0]]
        detail = f"{split[0]}: two answers were given by {first.votes} of {first.reviewers} reviewers each"
        return unusable(number, "reviewers_disagree", detail, {**fields, **answers})
    row = dict(fields)
    for question, agreement in agreements.items():
        row[question if question not in fields else f"{question}.answer"] = agreement.value
    if len(agreements) == 1 and not wanted_columns(settings.columns) and settings.shape == "auto":
        _name_input_and_output(row, fields, next(iter(agreements)))
    return RawRow(number, row)


def _name_input_and_output(row: dict[str, Any], fields: Mapping[str, Any], question: str) -> None:
    """Give the one answer and what it answers the names that shapes look for, where there is no doubt."""
    answered = question if question not in fields else f"{question}.answer"
    chats = [k for k, v in fields.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
    texts = [k for k, v in fields.items() if isinstance(v, str) and not k.startswith(METADATA)]
    prompt = next((n for n in _PROMPT_FIELDS if n in texts), next(iter(texts), None))
    if len(chats) == 1 and not texts:
        answer = row.pop(answered)
        row["messages"] = [*row.pop(chats[0]), {"role": "assistant", "content": answer}]
    elif prompt is not None and (len(texts) == 1 or prompt in _PROMPT_FIELDS):
        answer = row.pop(answered)
        row["input"], row["output"] = row.pop(prompt), answer
