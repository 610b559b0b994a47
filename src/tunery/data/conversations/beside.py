"""Beside the question: system turn, earlier turns, functions and weight, from columns of any shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunery.core.example import Message
from tunery.core.tool_text import (
    NotACall,
    describe,
    functions_of,
    read_functions,
    with_functions,
    with_system_prompt,
)
from tunery.data.conversations.flags import row_is_learnt
from tunery.data.conversations.messages import json_of, parse_messages
from tunery.data.conversations.shapes import LABEL, UNSEEN, Mapped, PromptPart, says_rating
from tunery.data.conversations.values import is_blank, text_of
from tunery.data.rows.row import NO_VALUE, BadRow, Flaw, UnusableRow, no_prompt

_WAY_OUT = "name the column under columns.metadata where it is none"
_HISTORY_FIX = f"must be a list of [question, answer] pairs, or of {{role, content}} objects; {_WAY_OUT}"
_LIKED = frozenset({"true", "1", "1.0", "yes", "y", "up", "desirable"})
_DISLIKED = frozenset({"false", "0", "0.0", "-1", "-1.0", "no", "n", "down", "undesirable"})
_READ_AS: dict[PromptPart, str] = {
    "system": "the system turn",
    "history": "the turns before the question",
    "tools": "the functions that the model may call",
}


def check_beside(values: Mapping[str, Any], mapped: Mapped) -> None:
    """Check that nothing beside a row's conversation says that it is not to be learnt as it stands.

    Raises:
        BadRow: The row comes with images or sound, or has a weight that is neither 0 nor 1.
        UnusableRow: Its weight is 0.
    """
    flaws: list[Flaw] = []
    column, weight = _given(values, mapped.beside["weight"])
    if not row_is_learnt(weight, column, flaws):
        raise UnusableRow("no_trained_turn", f"{column}: the row has weight 0")
    for name in UNSEEN:
        if name in mapped.watched and _is_medium(values.get(name)):
            fix = "holds what is no text, which no model here reads; name the column under columns.metadata"
            flaws.append(Flaw(name, NO_VALUE, f"{fix} where the text is whole without it"))
    if flaws:
        raise BadRow(*flaws)


def _is_medium(value: Any) -> bool:
    return isinstance(value, (list, Mapping, bytes)) and bool(value)


def is_desirable(values: Mapping[str, Any], mapped: Mapped, *, named: bool) -> bool | None:
    """Return whether people liked a row's answer, as rows for KTO say it; None where nothing does.

    Args:
        values: Of the row.
        mapped: How its file is read.
        named: Whether the recipe names the column, which then has to say it.

    Raises:
        BadRow: The column says something else, or stands beside a pair, or two columns differ.
    """
    found: dict[str, bool] = {}
    for column in mapped.desirable:
        given = values.get(column)
        word = str(given).strip().lower()
        if is_blank(given):
            continue
        if column == LABEL and not (named or says_rating(values, mapped.shape, mapped.column["completion"])):
            is_answer = str(given) == str(values.get(mapped.column["completion"]))
            if is_answer or LABEL not in mapped.used:
                continue
            # The first row rates its answer: either it or this one was read for what it is not.
            fix = f"is a class, and the first row has true or false there; {_WAY_OUT}"
            raise BadRow(Flaw(column, given, fix))
        if word not in _LIKED | _DISLIKED:
            fix = f"must say whether the answer is desirable: true or false; {_WAY_OUT}"
            raise BadRow(Flaw(column, given, fix))
        if mapped.shape == "preference":
            raise BadRow(Flaw(column, given, f"a pair says itself which answer is preferred; {_WAY_OUT}"))
        found[column] = word in _LIKED
    if len(set(found.values())) > 1:
        first, second = found
        raise BadRow(Flaw(second, values[second], f"differs from {first!r}; remove one of the columns"))
    return next(iter(found.values()), None)


def with_beside(
    turns: tuple[Message, ...], values: Mapping[str, Any], mapped: Mapped, notes: list[str]
) -> tuple[Message, ...]:
    """Return a row's turns with its system turn, its earlier turns and its functions before them.

    A system turn that the conversation has goes before another one in a column, as LLaMA-Factory does it;
    ``notes`` says so. Answers in the history are learnt like the last one, as there.

    Args:
        turns: What the row's own columns of its shape hold.
        values: Of the row.
        mapped: How its file is read.
        notes: To which is added what a person should know.

    Raises:
        BadRow: A column holds something else, or two columns for one part differ.

    Source:
        https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md (``system``, ``history``, ``tools``)
    """
    column, given = _given(values, mapped.beside["history"])
    if not is_blank(given):
        turns = _with_history(turns, _history(given, column))
        _announce("history", column, mapped, notes)
    column, given = _given(values, mapped.beside["system"])
    if not is_blank(given):
        system = text_of(given, column, no_prompt, _WAY_OUT)
        own = turns[0].content if turns and turns[0].role == "system" else ""
        if own and read_functions(own).text not in ("", system):
            notes.append(f"column {column!r} differs from the conversation's own system turn, which was kept")
        else:
            turns = turns if own == system else with_system_prompt(turns, system)
            _announce("system", column, mapped, notes)
    column, given = _given(values, mapped.beside["tools"])
    if not is_blank(given):
        turns = _with_tools(turns, given, column)
        _announce("tools", column, mapped, notes)
    return turns


def _with_tools(turns: tuple[Message, ...], tools: Any, field: str) -> tuple[Message, ...]:
    """Return a conversation whose system turn describes functions, given as a list or the JSON of one.

    Raises:
        BadRow: They are no functions.
    """
    if isinstance(tools, str):  # a column of a table holds JSON
        tools = json_of(tools, field, f"must be a list of functions, or the JSON of one; {_WAY_OUT}")
    if is_blank(tools):
        return turns
    try:
        return with_functions(turns, describe(functions_of(tools)))
    except NotACall as error:
        raise BadRow(Flaw(field, tools, str(error))) from None


def _announce(part: PromptPart, column: str, mapped: Mapped, notes: list[str]) -> None:
    if column in mapped.guessed:
        notes.append(f"column {column!r} was read as {_READ_AS[part]}; {_WAY_OUT}")


def _given(values: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, Any]:
    """Return the column of a part that has a value, and the value; None where none has.

    Raises:
        BadRow: Two have, and they differ.
    """
    filled = [name for name in columns if name in values and not is_blank(values[name])]
    if not filled:
        return "", None
    first, *others = filled
    for other in others:
        if values[other] != values[first]:
            raise BadRow(Flaw(other, values[other], f"differs from {first!r}; remove one of the columns"))
    return first, values[first]


def _with_history(turns: tuple[Message, ...], history: tuple[Message, ...]) -> tuple[Message, ...]:
    head = 1 if turns and turns[0].role == "system" else 0
    if head and history and history[0] == turns[0]:
        history = history[1:]
    return (*turns[:head], *history, *turns[head:])


def _history(value: Any, field: str) -> tuple[Message, ...]:
    """Return earlier turns from pairs of question and answer, or from turns; an empty pair is none."""
    if isinstance(value, str):
        value = json_of(value, field, _HISTORY_FIX)
    if is_blank(value):
        return ()
    if not isinstance(value, list):
        raise BadRow(Flaw(field, value, _HISTORY_FIX))
    if all(isinstance(turn, Mapping) and ("role" in turn or "from" in turn) for turn in value):
        return parse_messages(value, field)
    turns: list[Message] = []
    for i, pair in enumerate(value):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise BadRow(Flaw(f"{field}[{i}]", pair, _HISTORY_FIX))
        if all(map(is_blank, pair)):
            continue
        if not all(isinstance(text, str) for text in pair) or any(map(is_blank, pair)):
            raise BadRow(Flaw(f"{field}[{i}]", pair, "a pair needs a question and an answer, both texts"))
        pair_of_turns = [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
        turns += parse_messages(pair_of_turns, f"{field}[{i}]")
    return tuple(turns)
