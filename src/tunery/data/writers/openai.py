"""OpenAI's format: one JSON object a line, with ``messages`` and ``tools``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example, Message
from tunery.core.tool_text import Described, describe, read_answer, read_functions, write_answer


def _openai(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    _write_lines(path, (_openai_row(e) for e in examples))


def _openai_row(example: Example) -> dict[str, Any]:
    if example.rejected is None:
        return _openai_talk(example.messages)
    return {
        "input": _openai_talk(example.prompt),
        "preferred_output": [_openai_turn("assistant", example.reference)],
        "non_preferred_output": [_openai_turn("assistant", example.rejected)],
    }


def _openai_talk(messages: Sequence[Message]) -> dict[str, Any]:
    """Return a conversation with its functions and calls as OpenAI writes them."""
    turns: list[dict[str, Any]] = []
    waiting: list[str] = []  # ids of calls whose results come next, in their order
    for message in messages:
        turn = _openai_turn(message.role, message.content, message.weight, first=len(turns))
        if message.role == "tool" and waiting:
            turn["tool_call_id"] = waiting.pop(0)
        waiting += [call["id"] for call in turn.get("tool_calls", ())]
        turns.append(turn)
    told = read_functions(messages[0].content) if messages and messages[0].role == "system" else None
    if told is None or not told.functions or not _same_text(messages[0].content, told):
        return {"messages": turns}
    head = [_turn("system", told.text)] if told.text else []
    tools = [{"type": "function", "function": f} for f in told.functions]
    return {"messages": [*head, *turns[1:]], "tools": tools}


def _same_text(system: str, told: Described) -> bool:
    """Tell whether reading the functions again gives the very same system turn."""
    return system == "\n\n".join([*([told.text] if told.text else []), describe(told.functions)])


def _openai_turn(role: str, content: str, weight: int = 1, *, first: int = 0) -> dict[str, Any]:
    """Return a turn; an assistant's calls leave its text where reading them again gives the same text."""
    said = read_answer(content) if role == "assistant" else None
    if said is None or not said.calls or write_answer(said.text, said.calls) != content:
        return _turn(role, content, weight)
    calls = [
        {
            "id": f"call_{first}_{i}",
            "type": "function",
            "function": {"name": c.name, "arguments": c.arguments},
        }
        for i, c in enumerate(said.calls)
    ]
    return {**_turn(role, content, weight), "content": said.text or None, "tool_calls": calls}


def _turn(role: str, content: str, weight: int = 1) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": role, "content": content}
    return turn if weight else {**turn, "weight": 0}


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
