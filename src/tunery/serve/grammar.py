"""Constraints as Lark grammars of llguidance, which the embedded engine and llama.cpp's server follow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunery.core.engine import Calls, Constraint
from tunery.core.tool_text import CLOSE, OPEN, call_frame

JSON_OPTIONS: Mapping[str, Any] = {
    # Bounded, because a small base model may print blanks until its tokens run out.
    "whitespace_pattern": r"[ \t\n\r]{0,16}",
    # What json.dumps writes for é by default.
    "json_allow_general_unicode_escapes": True,
}


_COMPACT: Mapping[str, Any] = {
    # As training writes calls.
    "whitespace_flexible": False,
    "item_separator": ",",
    "key_separator": ":",
    "json_allow_general_unicode_escapes": True,
}
COMMON = frozenset({"whitespace_pattern", "whitespace_flexible", "item_separator", "key_separator"})
"""Options that older builds of llguidance know, too."""


def lark(
    constraint: Constraint, labels: tuple[str, ...] | None, *, options: frozenset[str] | None = None
) -> str:
    """Return a constraint's grammar.

    Args:
        constraint: What the completion must be.
        labels: Its labels, each once; None where it has none.
        options: Names of the options that may be set for JSON; None for all.

    Raises:
        ValueError: A schema is no JSON, or a grammar is none.
    """
    if constraint.calls is not None:
        return _calls_grammar(constraint, constraint.calls, labels, options)
    if constraint.grammar is not None:
        return _from_any(constraint.grammar)
    return f"start: {_instead(constraint, labels, options)}"


def _from_any(grammar: str) -> str:
    """Return a grammar as Lark's text, be it GBNF.

    Raises:
        ValueError: It is neither.
    """
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(grammar))
    except RecursionError:
        raise
    except Exception as error:  # it raises bare ones, and an IndexError at a lone backslash
        raise ValueError(f"{error}; write GBNF with a rule root, or Lark with a rule start") from None


def _calls_grammar(
    constraint: Constraint, calls: Calls, labels: tuple[str, ...] | None, options: frozenset[str] | None
) -> str:
    """Return a grammar of calls of functions, and of what may be answered instead of them.

    A call's arguments are written as training writes them, without spaces. Each schema is a document of its
    own, so that its references stay right.
    """
    frames = [call_frame(name) for name, _ in calls.functions]
    rules = [f"body: {' | '.join(f'body_{n}' for n in range(len(frames)))}"]
    for n, (frame, (_, schema)) in enumerate(zip(frames, calls.functions, strict=True)):
        rules.append(f"body_{n}: {_literal(frame.before)} args_{n} {_literal(frame.after + CLOSE)}")
        rules.append(f"args_{n}: %json {_json(schema, _COMPACT, options)}")
    call = f"{_literal(OPEN)} body"
    forced = f'{call} ("\\n" {call})*' if calls.parallel else call
    if calls.required:
        start = [f"start: {forced}"]
    elif (instead := _instead(constraint, labels, options)) is not None:
        start = [f"start: {forced} | instead", f"instead: {instead}"]
    else:
        # Lazy: as soon as the tag is there a call has begun, and the text before it has ended.
        tag = _literal(OPEN)[1:-1]
        start = [
            f"start: {'(lead body)* PLAIN' if calls.parallel else 'lead body | PLAIN'}",
            f"lead[lazy]: TEXT {_literal(OPEN)}",
            r"TEXT: /(.|\n)*/",
            rf"PLAIN: /(.|\n)*/ & ~/(.|\n)*{tag}(.|\n)*/",
        ]
    return "\n".join([*start, *rules])


def _instead(
    constraint: Constraint, labels: tuple[str, ...] | None, options: frozenset[str] | None
) -> str | None:
    """Return what may be answered where no function is called, as a rule; None for any text."""
    if labels is not None:
        return _one_of(labels)
    if constraint.json_schema is not None:
        return f"%json {_json(constraint.json_schema, JSON_OPTIONS, options)}"
    return None if constraint.regex is None else _pattern(constraint.regex)


def _pattern(regex: str) -> str:
    """Return a regular expression between slashes; what is escaped already is left as it is."""
    return "/" + re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", regex, flags=re.DOTALL) + "/"


def _json(schema: Mapping[str, Any], written: Mapping[str, Any], options: frozenset[str] | None) -> str:
    kept = {name: value for name, value in written.items() if options is None or name in options}
    return json.dumps({**schema, "x-guidance": kept}, allow_nan=False)


def _one_of(labels: Sequence[str]) -> str:
    return " | ".join(map(_literal, labels))


def _literal(text: str) -> str:
    """Return text as a Lark string: a JSON string in which every unprintable character is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in quoted)
