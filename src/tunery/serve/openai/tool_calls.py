"""Tool calls on the wire: what a request offers, and what an answer calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunery.core.tool_text import OPEN, Answer, NotACall, ToolCall, call_of, functions_of, read_answer


def calls_of(tool_calls: list[Any] | None) -> list[ToolCall]:
    """Return the calls of an assistant's turn that a client sends back.

    Raises:
        ValueError: One is broken; says how.
    """
    found = []
    for call in tool_calls or []:
        inner = call.get("function") if isinstance(call, dict) else None
        if not isinstance(inner, dict):
            raise NotACall("each of tool_calls must be {id, type: function, function: {name, arguments}}")
        found.append(call_of(inner.get("name"), inner.get("arguments")))
    return found


def offered(tools: list[Any] | None, tool_choice: Any) -> list[Any]:
    """Return the functions that the prompt describes; none where the client forbids calls.

    Raises:
        ValueError: They are no functions, or a call is demanded, which nothing here can promise.
    """
    if not tools or tool_choice == "none":
        return []
    if tool_choice not in (None, "auto"):
        raise ValueError("tool_choice can be auto or none here")
    return list(functions_of(tools))


def message_of(text: str, head_id: str, index: int) -> dict[str, Any]:
    """Return the ``message`` of a choice that may call functions."""
    answer = read_answer(text)
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.calls:
        message["tool_calls"] = wire_calls(answer.calls, head_id, index)
    return message


def wire_calls(calls: Sequence[ToolCall], head_id: str, index: int) -> list[dict[str, Any]]:
    """Return calls as OpenAI writes them, with ids that differ within a request and between requests."""
    return [
        {
            "id": f"call_{head_id.rpartition('-')[2]}_{index}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(calls)
    ]


class CallWatch:
    """Holds back the part of a streamed text that may turn out to be calls."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Take a piece of text and return what can be sent: everything before a call begins.

        >>> watch = CallWatch()
        >>> watch.feed("Let me see <tool"), watch.feed("box>."), watch.feed("<tool_call>{")
        ('Let me see', ' <toolbox>.', '')
        """
        self._held += text
        begin = self._held.find(OPEN)
        if begin < 0:
            # The longest end that could be the beginning of a call, with the space before it.
            begin = next(
                (len(self._held) - n for n in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:n])),
                len(self._held),
            )
        begin = len(self._held[:begin].rstrip())
        sent, self._held = self._held[:begin], self._held[begin:]
        return sent

    def end(self) -> Answer:
        """Return what is left: text that was no call after all or stands behind one, and calls."""
        left, self._held = read_answer(self._held), ""
        return left
