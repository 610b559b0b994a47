"""Conversations as files have them: OpenAI ``messages`` lists and Human/Assistant transcripts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from tunery.core.errors import did_you_mean
from tunery.core.example import Message, Role
from tunery.core.tool_text import NotACall, ToolCall, call_of, write_answer
from tunery.data.conversations.flags import FLAGS, is_learnt, is_off
from tunery.data.rows.row import NO_VALUE, BadRow, Flaw, UnusableRow, no_answer, no_prompt
from tunery.text.normalise import HALF_A_PAIR, is_unicode

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function"), "tool"),
    "user": "user",
    "assistant": "assistant",
}
_SHAREGPT_ROLES: dict[str, Role] = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "assistant"), "assistant"),
    **dict.fromkeys(("observation", "tool"), "tool"),
}
_TOOL_TURNS = frozenset({"function_call", "tool_call"})
_READ_KEYS = frozenset(("role", "content", "tool_calls", "function_call")) | FLAGS
_IGNORED_KEYS = frozenset(("name", "tool_call_id", "refusal", "annotations"))
_UNREAD = frozenset(("name", "refusal"))
_SHAREGPT_KEYS = frozenset(("from", "value")) | FLAGS
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?")


def list_of_turns(value: Any, field: str) -> list[Any]:
    """Return the turns of a conversation as the file has them; a string is read as JSON first.

    Raises:
        BadRow: It is no list.
        UnusableRow: There is no turn.
    """
    if value is None:
        raise no_prompt(field)
    if isinstance(value, str):
        value = json_of(value, field, "must be a list of {role, content} objects")
    if not isinstance(value, list):
        raise BadRow(Flaw(field, value, "must be a list of {role, content} objects"))
    if not value:
        raise no_prompt(field)
    return value


def until_target(turns: list[Any]) -> list[Any]:
    """Return turns without those behind the last one that is learnt, where flags say that they are not.

    What follows the last target teaches nothing: it is no target, no reference, and no context of either.

    Args:
        turns: As the file has them; broken ones among them are left for :func:`parse_messages`.
    """
    if not any(map(is_off, turns)):
        return turns
    last = max((i for i, turn in enumerate(turns) if _answers(turn) and not is_off(turn)), default=None)
    if last is None or not any(map(is_off, turns[last + 1 :])):
        return turns
    return turns[: last + 1]


def _answers(turn: Any) -> bool:
    """Tell whether a turn as the file has it is the assistant's."""
    who = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    return isinstance(who, str) and (who in _TOOL_TURNS or _SHAREGPT_ROLES.get(who) == "assistant")


def parse_messages(value: Any, field: str) -> tuple[Message, ...]:
    """Read a list of ``{"role", "content"}`` turns, or ShareGPT's ``{"from", "value"}`` ones.

    A string is read as JSON first. A turn's ``name`` is passed over, as chat templates pass it over.
    ``developer`` means ``system``, ``human`` means ``user``, ``gpt`` means ``assistant``. Calls of functions
    become text, as :mod:`tunery.core.tool_text` writes it. An assistant's turn that is flagged as not learnt
    has weight 0; flags of other turns change nothing.

    Raises:
        BadRow: With every flaw found: wrong types, unknown roles, broken calls, images, flags that are none.
        UnusableRow: There is no list at all.
    """
    value = list_of_turns(value, field)
    plain = [_plain_turn(turn) for turn in value]
    if None not in plain:
        return tuple(cast(list[Message], plain))
    flaws: list[Flaw] = []
    turns = [_turn(turn, f"{field}[{i}]", flaws) for i, turn in enumerate(value)]
    if flaws:
        raise BadRow(*flaws)
    return tuple(t for t in turns if t is not None)


def _plain_turn(turn: Any) -> Message | None:
    """Return a turn that is nothing but a known role and a text, as nearly all are; None for any other.

    It saves the list of flaws, the copy and the loops over keys, which take longer than the turn itself.
    """
    if type(turn) is not dict or len(turn) != 2:
        return None
    role, content = turn.get("role"), turn.get("content")
    if type(role) is not str or type(content) is not str or role not in _ROLES or not is_unicode(content):
        return None
    return Message(role=_ROLES[role], content=content)


def check_conversation(messages: tuple[Message, ...], field: str) -> None:
    """Check that a conversation is one that can be trained on.

    Raises:
        BadRow: It does not end with an assistant turn, has no user turn, or a system turn that is not first.
        UnusableRow: Its last answer or every user turn is empty, or no assistant turn has weight 1.
    """
    last = len(messages) - 1
    roles = [m.role for m in messages]
    flaws = []
    if roles[last] != "assistant":
        fix = "the last turn must be the assistant's"
        flaws.append(Flaw(f"{field}[{last}].role", roles[last], fix))
    if "system" in roles[1:]:
        fix = "a system turn can only be the first"
        flaws += [Flaw(f"{field}[{i}].role", r, fix) for i, r in enumerate(roles) if i and r == "system"]
    if "user" not in roles:
        flaws.append(Flaw(field, NO_VALUE, f"{len(messages)} turns; add a user turn before the assistant's"))
    if "assistant" in roles and not any(m.role == "assistant" and m.weight for m in messages):
        raise UnusableRow("no_trained_turn", f"{field}: every assistant turn has weight 0")
    if flaws:
        raise BadRow(*flaws)
    if not messages[last].content.strip():
        raise no_answer(f"{field}[{last}].content")
    if not any(m.role == "user" and m.content.strip() for m in messages):
        raise no_prompt(field)


def parse_transcript(text: str) -> tuple[Message, ...] | None:
    """Read ``\\n\\nHuman: … \\n\\nAssistant: …``, or return None where text is not such a transcript.

    >>> [m.role for m in parse_transcript("\\n\\nHuman: Hi\\n\\nAssistant: Hello") or ()]
    ['user', 'assistant']
    """
    pieces = _TURN.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        return None
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(role="user" if who == "Human" else "assistant", content=what) for who, what in turns)


def json_of(text: str, field: str, fix: str) -> Any:
    """Return what JSON text holds.

    Raises:
        BadRow: It is not JSON; ``fix`` says what it should be.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRow(Flaw(field, text, fix)) from None


def _turn(turn: Any, field: str, flaws: list[Flaw]) -> Message | None:
    """Return one turn, or None after adding what is wrong with it to ``flaws``."""
    if not isinstance(turn, Mapping):
        flaws.append(Flaw(field, turn, "must be an object with role and content"))
        return None
    before = len(flaws)
    turn = {k: v for k, v in turn.items() if v is not None}
    if "from" in turn and "role" not in turn:
        return _sharegpt_turn(turn, field, flaws)
    role = _ROLES.get(turn["role"]) if isinstance(turn.get("role"), str) else None
    if role is None:
        flaws.append(Flaw(f"{field}.role", turn.get("role"), _role_fix(turn.get("role"))))
    calls = _calls(turn, field, flaws)
    if calls and role != "assistant":
        flaws.append(Flaw(f"{field}.tool_calls", turn.get("role"), "only the assistant calls functions"))
    flaws += [
        Flaw(f"{field}.{key}", turn[key], "unknown key; remove it")
        for key in turn
        if key not in _READ_KEYS and key not in _IGNORED_KEYS
    ]
    weight = _weight(turn, role, field, flaws)
    if turn.get("content") is None and (calls or not weight):  # what is only context may say nothing
        content = ""
    else:
        content = _content(turn.get("content"), f"{field}.content", flaws)
    if len(flaws) > before:
        return None
    return Message(role=cast(Role, role), content=write_answer(content, calls), weight=weight)


def _weight(turn: Mapping[str, Any], role: Role | None, field: str, flaws: list[Flaw]) -> Literal[0, 1]:
    """Return 0 for an assistant's turn that is flagged as not learnt; others never are, whatever they say."""
    if role != "assistant" or FLAGS.isdisjoint(turn):
        return 1
    return 0 if is_learnt(turn, field, flaws) is False else 1


def _calls(turn: Mapping[str, Any], field: str, flaws: list[Flaw]) -> list[ToolCall]:
    """Return the functions that a turn calls, in OpenAI's present form or the older one."""
    given = turn.get("tool_calls") or []
    if not isinstance(given, list):
        flaws.append(Flaw(f"{field}.tool_calls", given, "must be a list of calls"))
        return []
    inner = [c.get("function", c) if isinstance(c, Mapping) else c for c in given]
    calls = _called(inner, f"{field}.tool_calls", flaws)
    if turn.get("function_call"):
        calls += _called([turn["function_call"]], f"{field}.function_call", flaws)
    return calls


def _called(given: Sequence[Any], field: str, flaws: list[Flaw]) -> list[ToolCall]:
    """Return calls given as objects with a name and arguments, or as the JSON of such objects."""
    calls = []
    for call in given:
        try:
            parsed = json.loads(call) if isinstance(call, str) else call
            if not isinstance(parsed, Mapping):
                raise NotACall("a call must be an object with name and arguments")
            calls.append(call_of(parsed.get("name"), parsed.get("arguments")))
        except (ValueError, RecursionError) as error:
            fix = str(error) if isinstance(error, NotACall) else "must be the JSON of a call"
            flaws.append(Flaw(field, call, fix))
    return calls


def _sharegpt_turn(turn: Mapping[str, Any], field: str, flaws: list[Flaw]) -> Message | None:
    """Return a turn of a ShareGPT conversation; keys such as ``markdown`` are passed over."""
    before = len(flaws)
    who = turn["from"]
    if isinstance(who, str) and who in _TOOL_TURNS:
        weight = _weight(turn, "assistant", field, flaws)
        calls = _called([turn.get("value")], f"{field}.value", flaws)
        if len(flaws) > before:
            return None
        return Message(role="assistant", content=write_answer("", calls), weight=weight)
    role = _SHAREGPT_ROLES.get(who) if isinstance(who, str) else None
    if role is None:
        flaws.append(Flaw(f"{field}.from", who, _role_fix(who, _SHAREGPT_ROLES)))
    weight = _weight(turn, role, field, flaws)
    if turn.get("value") is None and not weight:
        content = ""
    else:
        content = _content(turn.get("value"), f"{field}.value", flaws)
    if len(flaws) > before:
        return None
    return Message(role=cast(Role, role), content=content, weight=weight)


def passed_over(turns: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the keys of understood turns that say something and are not read.

    Any key of a ShareGPT turn may be one; of other turns who speaks by name, since others are refused.
    """
    if all(len(turn) == 2 for turn in turns):
        return set()
    return {
        key
        for turn in turns
        for key, value in turn.items()
        if value not in (None, "") and (key in _UNREAD if "role" in turn else key not in _SHAREGPT_KEYS)
        if not (key == "name" and _ROLES.get(turn.get("role", "")) == "tool")
    }


def _role_fix(given: Any, known: Mapping[str, Role] = _ROLES) -> str:
    meant = did_you_mean(given, known) if isinstance(given, str) else ""
    return f"must be one of {', '.join(sorted(known))}{meant}"


def _content(value: Any, field: str, flaws: list[Flaw]) -> str:
    """Return the text of a turn: a string, or a list of text parts joined."""
    if isinstance(value, str):
        if not is_unicode(value):
            flaws.append(Flaw(field, value, HALF_A_PAIR))
        return value
    if isinstance(value, list) and value and all(_is_text_part(part) for part in value):
        return _content("".join(part["text"] for part in value), field, flaws)
    flaws.append(Flaw(field, value, "must be text, or a list of {type: text, text: …} parts"))
    return ""


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
