"""Understanding: one raw row as a conversation, by its file's shape, or why it is none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunery.core.errors import listed
from tunery.core.example import REQUEST_ID, SEED_PROMPTS, SPLIT_HINT, Drop, Dropped, Message
from tunery.core.ids import sampling_key
from tunery.data.config import SourceConfig
from tunery.data.conversations.beside import check_beside, is_desirable, with_beside
from tunery.data.conversations.messages import (
    check_conversation,
    json_of,
    list_of_turns,
    parse_messages,
    parse_transcript,
    passed_over,
    until_target,
)
from tunery.data.conversations.shapes import REFERENCE, TURN_COLUMNS, Mapped, shape_of_keys
from tunery.data.conversations.values import answer_json, is_blank, json_ready, text_of
from tunery.data.rows.dropped import dropped_row
from tunery.data.rows.flaws import BAD_ROW, sentence
from tunery.data.rows.refused import Refused
from tunery.data.rows.row import NO_VALUE, BadRow, Draft, Flaw, RawRow, UnusableRow, no_answer, no_prompt
from tunery.text.normalise import HALF_A_PAIR, is_unicode


def understand(raw: RawRow, mapped: Mapped, source: SourceConfig) -> Draft | Dropped:
    """Read one row as :func:`parse_row` does; one that teaches nothing or cannot be understood is dropped."""
    try:
        return parse_row(raw, mapped, source)
    except BadRow as bad:
        drop = Drop(BAD_ROW, "; ".join(map(sentence, bad.flaws)))
    except UnusableRow as unusable:
        drop = unusable.drop
    return dropped_row(source.path, raw.number, drop, dict(raw.values))


def parse_row(raw: RawRow, mapped: Mapped, source: SourceConfig) -> Draft:
    """Read one row as its file's shape says.

    Args:
        raw: As the file has it; a column that is absent or None means 'no value'.
        mapped: From :func:`tunery.data.conversations.shapes.map_columns`.
        source: For the columns to keep, label style and JSON output.

    Raises:
        BadRow: The row cannot be understood; with every flaw.
        UnusableRow: It lacks its prompt or its answer, or its two answers belong to different prompts.
    """
    values = raw.values
    if isinstance(values, Refused):
        raise values.error
    _check_shape(values, mapped, source)
    notes: list[str] = []
    turns = _turns(values, mapped, source, notes)
    groups = _group_keys(values, source.columns.groups)
    metadata = {c: json_ready(values.get(c)) for c in source.columns.metadata} | _hint(values)
    for column, value in (("group", groups), ("metadata", metadata)):
        if value and not is_unicode(written := json.dumps(value, ensure_ascii=False, default=str)):
            raise BadRow(Flaw(column, written, HALF_A_PAIR))
    is_pair = mapped.shape == "preference"
    key = None
    if source.limit is not None:
        key = bytes.fromhex(sampling_key(0, "limit", raw.number, turns[-2 if is_pair else -1].content))
    liked = is_desirable(values, mapped, named=source.columns.desirable is not None)
    return Draft(source.path, raw.number, turns, is_pair, groups, metadata, key, tuple(notes), liked)


def _check_shape(values: Mapping[str, Any], mapped: Mapped, source: SourceConfig) -> None:
    """Refuse a row that lacks this file's columns but has those of another shape."""
    if all(column in values for column in mapped.needed) or source.shape != "auto":
        return
    other = shape_of_keys(values)
    if other is not None and other != mapped.shape:
        fix = f"this is a {other} row among {mapped.shape} rows; put one shape in each file"
        raise BadRow(Flaw("(columns)", ", ".join([*values][:6]), fix))


def _group_keys(values: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """Return a row's values in the group columns, with the column's name before them.

    A single column gives its bare value too, first: so files tie together whose columns have other names.
    """
    named = tuple(f"{c}={values[c]}" for c in columns if values.get(c) is not None)
    return (str(values[columns[0]]), *named) if len(columns) == 1 and named else named


def _hint(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row states of its own split: rows from feedback or a teacher are for training only."""
    about = values.get("metadata")
    if not isinstance(about, Mapping) or about.get(SPLIT_HINT) != "train":
        return {}
    stated: dict[str, Any] = {SPLIT_HINT: "train"}
    if isinstance(fingerprints := about.get(SEED_PROMPTS), list):
        stated[SEED_PROMPTS] = [str(f) for f in fingerprints]
    if isinstance(request := about.get(REQUEST_ID), str):
        stated[REQUEST_ID] = request
    return stated


def _turns(
    values: Mapping[str, Any], mapped: Mapped, source: SourceConfig, notes: list[str]
) -> tuple[Message, ...]:
    """Return the conversation of a row, of a preference pair with the rejected answer behind it."""
    alone = mapped.watched.isdisjoint(values)
    if not alone:
        check_beside(values, mapped)
    column, shape = mapped.column, mapped.shape
    if shape == "preference":
        turns = _preference(values, mapped, notes)
        whole = turns if alone else with_beside(turns, values, mapped, notes)
        if whole is not turns:
            check_conversation(whole[:-1], "(turns)")
        return whole
    if shape == "chat":
        field = _turn_column(values, mapped, source)
        turns = _with_reference(_chat(values.get(field), field, notes), values)
    elif shape == "instruction":
        field = column["output"]
        answer = _answer(values.get(field), field, source)
        turns = (_asked(_instruction(values, mapped)), Message(role="assistant", content=answer))
    else:
        at, field = ("prompt", "completion") if shape == "completion" else ("input", "output")
        turns = _asked_and_answered(values, column[at], column[field], source, notes)
        field = column[field]
    whole = turns if alone else with_beside(turns, values, mapped, notes)
    if whole is not turns or shape == "chat":
        check_conversation(whole, field)
    return _styled(whole, source)


def _turn_column(values: Mapping[str, Any], mapped: Mapped, source: SourceConfig) -> str:
    """Return the column of a row's turns: its file's, or where the recipe names none another usual one."""
    column = mapped.column["messages"]
    if source.columns.messages is not None or not is_blank(values.get(column)):
        return column
    return next((name for name in TURN_COLUMNS if not is_blank(values.get(name))), column)


def _chat(value: Any, field: str, notes: list[str]) -> tuple[Message, ...]:
    """Return a conversation up to the last turn that is learnt."""
    given = list_of_turns(value, field)
    turns = until_target(given)
    if len(turns) < len(given):
        notes.append(f"{field}: turns behind the last one that is learnt were left out")
    messages = parse_messages(turns, field)
    if others := passed_over(turns):
        notes.append(_unread(f"{field}: turns", others))
    return messages


def _unread(where: str, keys: Iterable[str]) -> str:
    return f"{where} have keys that nothing reads: {listed(sorted(map(repr, keys)), 5)}"


def _asked(question: str) -> Message:
    return Message(role="user", content=question)


def _asked_and_answered(
    values: Mapping[str, Any], prompt_at: str, answer_at: str, source: SourceConfig, notes: list[str]
) -> tuple[Message, ...]:
    """Return prompt and answer, each a text or a list of turns.

    Of a prompt in turns only the answer is learnt, as TRL does it with conversational prompt and completion.

    Source:
        https://huggingface.co/docs/trl/dataset_formats (``prompt-completion``, conversational)
    """
    prompt, answer = values.get(prompt_at), values.get(answer_at)
    if not _is_conversation(prompt) and (source.output_json or not _is_conversation(answer)):
        text = _answer(answer, answer_at, source)
        return (_asked(text_of(prompt, prompt_at, no_prompt)), Message(role="assistant", content=text))
    if _is_conversation(prompt):
        asked = tuple(
            m.with_(weight=0) if m.role == "assistant" else m for m in parse_messages(prompt, prompt_at)
        )
    else:
        asked = (_asked(text_of(prompt, prompt_at, no_prompt)),)
    if asked[-1].role == "assistant":
        fix = "ends within the assistant's turn, which cannot be learnt in part; end the prompt before it"
        raise BadRow(Flaw(f"{prompt_at}[{len(asked) - 1}].role", "assistant", fix))
    if _is_conversation(answer) and not source.output_json:
        answered = _chat([answer] if isinstance(answer, Mapping) else answer, answer_at, notes)
    else:
        answered = (Message(role="assistant", content=_answer(answer, answer_at, source)),)
    check_conversation((*asked, *answered), answer_at)
    return (*asked, *answered)


def _is_conversation(value: Any) -> bool:
    """Tell whether a value is a turn or a list of turns, as its first one shows."""
    if isinstance(value, str):
        return False
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and ("role" in first or "from" in first)


def _with_reference(messages: tuple[Message, ...], values: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return a conversation; one of an OpenAI reinforcement file ends with its grader's answer."""
    reference = values.get(REFERENCE)
    if reference is None or not messages or messages[-1].role == "assistant":
        return messages
    answer = reference if isinstance(reference, str) else answer_json(reference, REFERENCE)
    return (*messages, Message(role="assistant", content=text_of(answer, REFERENCE, no_answer)))


def _instruction(values: Mapping[str, Any], mapped: Mapped) -> str:
    column = mapped.column
    task = text_of(values.get(column["instruction"]), column["instruction"], no_prompt)
    given = values.get(column["input"])
    if is_blank(given):
        return task
    return f"{task}{mapped.before_input}{text_of(given, column['input'], no_prompt)}"


def _answer(value: Any, column: str, source: SourceConfig) -> str:
    if not source.output_json:
        if isinstance(value, (Mapping, list)):
            fix = "an object or list; set output_json: true for this source to answer in JSON"
            raise BadRow(Flaw(column, value, fix))
        return text_of(value, column, no_answer)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise no_answer(column)
    if isinstance(value, str):
        value = json_of(value, column, "not JSON, though output_json is set")
    return text_of(answer_json(value, column), column, no_answer)


def _styled(messages: tuple[Message, ...], source: SourceConfig) -> tuple[Message, ...]:
    """Return a conversation with its last answer in the source's label style."""
    if source.label_style == "as_is":
        return messages
    answer = " ".join(messages[-1].content.replace("_", " ").split())
    return (*messages[:-1], messages[-1].with_(content=answer))


def _preference(values: Mapping[str, Any], mapped: Mapped, notes: list[str]) -> tuple[Message, ...]:
    chosen_at, rejected_at = mapped.column["chosen"], mapped.column["rejected"]
    better = _side(values.get(chosen_at), chosen_at)
    worse = _side(values.get(rejected_at), rejected_at)
    prompt = _preference_prompt(values, mapped, notes)
    if prompt is None:
        if _said(better[:-1]) != _said(worse[:-1]):
            detail = f"{chosen_at} and {rejected_at} answer different conversations"
            raise UnusableRow("prompts_differ", detail)
        prompt = better[:-1]
    elif len(better) > 1 or len(worse) > 1:
        long_at = chosen_at if len(better) > 1 else rejected_at
        if _said(better[:-1]) != _said(prompt) or _said(worse[:-1]) != _said(prompt):
            turns = max(len(better), len(worse))
            raise BadRow(Flaw(long_at, NO_VALUE, f"{turns} turns; must be one assistant turn"))
    if not prompt:
        raise no_prompt("prompt")
    if not better[-1].weight:
        raise UnusableRow("no_trained_turn", f"{chosen_at}: the preferred answer has weight 0")
    check_conversation((*prompt, better[-1]), chosen_at)
    check_conversation((*prompt, worse[-1].with_(weight=1)), rejected_at)
    return (*prompt, better[-1], Message(role="assistant", content=worse[-1].content))


def _said(turns: Sequence[Message]) -> list[tuple[str, str]]:
    """Return what turns say; which of them are learnt does not make two prompts differ."""
    return [(m.role, m.content) for m in turns]


def _side(value: Any, field: str) -> tuple[Message, ...]:
    """Return one answer as the turns it comes with; at least the answer itself."""
    if is_blank(value):
        raise no_answer(field)
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list):
        return parse_messages(value, field)
    text = text_of(value, field, no_answer)
    return parse_transcript(text) or (Message(role="assistant", content=text),)


def _preference_prompt(
    values: Mapping[str, Any], mapped: Mapped, notes: list[str]
) -> tuple[Message, ...] | None:
    """Return the prompt of a preference row from whichever column holds it, None where none does."""
    column = mapped.column
    wrapped = values.get(column["input"])
    if isinstance(wrapped, Mapping):  # OpenAI: {"input": {"messages": […]}, …}
        asked = parse_messages(wrapped.get("messages"), f"{column['input']}.messages")
        others = [k for k, v in wrapped.items() if k not in {"messages", *mapped.used} and not is_blank(v)]
        if others:
            notes.append(_unread(column["input"], others))
        return with_beside(asked, wrapped, mapped, notes)
    if values.get(column["prompt"]) is not None:
        prompt = values[column["prompt"]]
        if isinstance(prompt, list):
            return parse_messages(prompt, column["prompt"])
        text = text_of(prompt, column["prompt"], no_prompt)
        return parse_transcript(text) or (Message(role="user", content=text),)
    if values.get(column["messages"]) is not None:
        return parse_messages(values[column["messages"]], column["messages"])
    if values.get(column["instruction"]) is not None:
        return (Message(role="user", content=_instruction(values, mapped)),)
    if wrapped is not None:
        return (Message(role="user", content=text_of(wrapped, column["input"], no_prompt)),)
    return None
