"""Understanding: one raw row as a conversation, by its file's shape, or why it is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunery.core.example import SEED_PROMPTS, SPLIT_HINT, Drop, Dropped, Message
from tunery.core.ids import sampling_key
from tunery.core.tool_text import NotACall, describe, functions_of, with_functions
from tunery.data.config import SourceConfig
from tunery.data.conversations.messages import check_conversation, json_of, parse_messages, parse_transcript
from tunery.data.conversations.shapes import Mapped, shape_of_keys
from tunery.data.rows.dropped import dropped_row
from tunery.data.rows.flaws import BAD_ROW, sentence
from tunery.data.rows.refused import Refused
from tunery.data.rows.row import NO_VALUE, BadRow, Draft, Flaw, RawRow, UnusableRow, no_answer, no_prompt
from tunery.text.normalise import HALF_A_PAIR, is_unicode

_REFERENCE = "reference_answer"
"""Key in OpenAI's reinforcement files."""


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
    turns = _turns(values, mapped, source)
    groups = _group_keys(values, source.columns.groups)
    metadata = {c: json_ready(values.get(c)) for c in source.columns.metadata} | _hint(values)
    for column, value in (("group", groups), ("metadata", metadata)):
        if value and not is_unicode(written := json.dumps(value, ensure_ascii=False, default=str)):
            raise BadRow(Flaw(column, written, HALF_A_PAIR))
    is_pair = mapped.shape == "preference"
    key = None
    if source.limit is not None:
        key = bytes.fromhex(sampling_key(0, "limit", raw.number, turns[-2 if is_pair else -1].content))
    return Draft(source.path, raw.number, turns, is_pair, groups, metadata, key)


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
    fingerprints = about.get(SEED_PROMPTS)
    if not isinstance(fingerprints, list):
        return {SPLIT_HINT: "train"}
    return {SPLIT_HINT: "train", SEED_PROMPTS: [str(f) for f in fingerprints]}


def _turns(values: Mapping[str, Any], mapped: Mapped, source: SourceConfig) -> tuple[Message, ...]:
    """Return the conversation of a row, of a preference pair with the rejected answer behind it."""
    if mapped.shape == "preference":
        return _preference(values, mapped.column)
    if mapped.shape == "chat":
        column = mapped.column["messages"]
        messages = _with_reference(parse_messages(values.get(column), column), values)
        messages = _with_tools(messages, values)
        check_conversation(messages, column)
        answer = _style(messages[-1].content, source)
        if answer != messages[-1].content:
            messages = (*messages[:-1], messages[-1].with_(content=answer))
        return messages
    question = _question(values, mapped)
    answer_column = mapped.column["completion" if mapped.shape == "completion" else "output"]
    answer = _style(_answer(values.get(answer_column), answer_column, source), source)
    return (Message(role="user", content=question), Message(role="assistant", content=answer))


def _with_reference(messages: tuple[Message, ...], values: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return a conversation; one of an OpenAI reinforcement file ends with its grader's answer."""
    reference = values.get(_REFERENCE)
    if reference is None or not messages or messages[-1].role == "assistant":
        return messages
    answer = reference if isinstance(reference, str) else compact_json(reference)
    return (*messages, Message(role="assistant", content=_text(answer, _REFERENCE, no_answer)))


def _question(values: Mapping[str, Any], mapped: Mapped) -> str:
    if mapped.shape == "instruction":
        return _instruction(values, mapped.column)
    column = mapped.column["prompt" if mapped.shape == "completion" else "input"]
    return _text(values.get(column), column, no_prompt)


def _instruction(values: Mapping[str, Any], column: Mapping[str, str]) -> str:
    task = _text(values.get(column["instruction"]), column["instruction"], no_prompt)
    given = values.get(column["input"])
    if _is_blank(given):
        return task
    return f"{task}\n\n{_text(given, column['input'], no_prompt)}"


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(value: Any, column: str, missing: Callable[[str], UnusableRow]) -> str:
    """Return a value as text; numbers, dates and booleans are written out."""
    if _is_blank(value):
        raise missing(column)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, bytes)):
        kind = "bytes" if isinstance(value, bytes) else "an object or list"
        raise BadRow(Flaw(column, value, f"{kind}, where text is expected"))
    text = str(value)
    if not is_unicode(text):
        raise BadRow(Flaw(column, text, HALF_A_PAIR))
    return text


def _answer(value: Any, column: str, source: SourceConfig) -> str:
    if not source.output_json:
        if isinstance(value, (Mapping, list)):
            fix = "an object or list; set output_json: true for this source to answer in JSON"
            raise BadRow(Flaw(column, value, fix))
        return _text(value, column, no_answer)
    if _is_blank(value):
        raise no_answer(column)
    if isinstance(value, str):
        value = json_of(value, column, "not JSON, though output_json is set")
    return _text(compact_json(value), column, no_answer)


def compact_json(value: Any) -> str:
    """Return JSON without spaces, keys in their given order: fewer tokens to learn and to serve."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def json_ready(value: Any) -> Any:
    """Return a value as JSON can hold it: dates and the like become text."""
    return json.loads(json.dumps(value, default=str))


def _style(answer: str, source: SourceConfig) -> str:
    return " ".join(answer.replace("_", " ").split()) if source.label_style == "words" else answer


def _with_tools(messages: tuple[Message, ...], values: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return a conversation whose system turn describes the functions that the row lists."""
    for key in ("tools", "functions"):
        tools = values.get(key)
        if isinstance(tools, str) and tools.strip():  # a column of a table holds JSON
            tools = json_of(tools, key, "must be a list of functions, or the JSON of one")
        if tools:
            try:
                return with_functions(messages, describe(functions_of(tools)))
            except NotACall as error:
                raise BadRow(Flaw(key, tools, str(error))) from None
    return messages


def _preference(values: Mapping[str, Any], column: Mapping[str, str]) -> tuple[Message, ...]:
    chosen_at, rejected_at = column["chosen"], column["rejected"]
    better = _side(values.get(chosen_at), chosen_at)
    worse = _side(values.get(rejected_at), rejected_at)
    prompt = _preference_prompt(values, column)
    if prompt is None:
        if better[:-1] != worse[:-1]:
            detail = f"{chosen_at} and {rejected_at} answer different conversations"
            raise UnusableRow("prompts_differ", detail)
        prompt = better[:-1]
    elif len(better) > 1 or len(worse) > 1:
        long_at = chosen_at if len(better) > 1 else rejected_at
        if better[:-1] != prompt or worse[:-1] != prompt:
            turns = max(len(better), len(worse))
            raise BadRow(Flaw(long_at, NO_VALUE, f"{turns} turns; must be one assistant turn"))
    if not prompt:
        raise no_prompt("prompt")
    check_conversation((*prompt, better[-1]), chosen_at)
    check_conversation((*prompt, worse[-1]), rejected_at)
    return (*prompt, better[-1], Message(role="assistant", content=worse[-1].content))


def _side(value: Any, field: str) -> tuple[Message, ...]:
    """Return one answer as the turns it comes with; at least the answer itself."""
    if _is_blank(value):
        raise no_answer(field)
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list):
        return parse_messages(value, field)
    text = _text(value, field, no_answer)
    return parse_transcript(text) or (Message(role="assistant", content=text),)


def _preference_prompt(values: Mapping[str, Any], column: Mapping[str, str]) -> tuple[Message, ...] | None:
    """Return the prompt of a preference row from whichever column holds it, None where none does."""
    wrapped = values.get(column["input"])
    if isinstance(wrapped, Mapping):  # OpenAI: {"input": {"messages": […]}, …}
        field = f"{column['input']}.messages"
        return _with_tools(parse_messages(wrapped.get("messages"), field), wrapped)
    if values.get(column["prompt"]) is not None:
        prompt = values[column["prompt"]]
        if isinstance(prompt, list):
            return parse_messages(prompt, column["prompt"])
        text = _text(prompt, column["prompt"], no_prompt)
        return parse_transcript(text) or (Message(role="user", content=text),)
    if values.get(column["messages"]) is not None:
        return parse_messages(values[column["messages"]], column["messages"])
    if values.get(column["instruction"]) is not None:
        return (Message(role="user", content=_instruction(values, column)),)
    if wrapped is not None:
        return (Message(role="user", content=_text(wrapped, column["input"], no_prompt)),)
    return None
