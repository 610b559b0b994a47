"""Prompts and answers of this server's own log: what customers asked an old model that it forwards to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.errors import NotFoundError
from tunery.core.example import Message
from tunery.core.rollout import RequestRecord
from tunery.core.tool_text import ToolCall, read_answer, read_functions
from tunery.data.config import TrafficConfig
from tunery.data.readers.importers.sampling import Sampler
from tunery.pipeline.rescue.prompts import FoundPrompt, NoPrompt, prompt_of
from tunery.rescue.commands import command
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import RecordedPrompt, Recording
from tunery.store.workspace import Workspace

ANSWERED = "requests.jsonl"
"""Of a model's folder: what the old model answered while it was forwarded to, a :class:`Recording` a line."""
_CUT = frozenset({"length", "content_filter"})


class Logged(NamedTuple):
    """What the request log has of an old model."""

    found: list[FoundPrompt]
    """Newest first; with the same prompt as often as it was asked."""
    answers: Mapping[str, RequestRecord]
    """Prompt to the newest call in which the old model answered it whole."""
    skipped: Mapping[str, int]
    """Reason to calls that are not taken [count]."""


def logged_prompts(folder: RescueFolder, workspace: Workspace, model: str, rule: TrafficConfig) -> Logged:
    """Return what was asked under the names that an old model answers to here, and what it answered.

    Personal data is masked as the log keeps it. What another model answered, or what came to no whole answer,
    is a prompt without an answer.

    Args:
        folder: Of the rescue, for the next command to type.
        workspace: Of one project, or of all.
        model: The old one.
        rule: Share, cap and consent.

    Raises:
        NotFoundError: No name here is forwarded to it.
    """
    names = workspace.forwarded_names.every()
    of_it = {each.name: each.old.name for each in names if model == each.name or each.is_of(model)}
    if not of_it:
        raise NotFoundError(
            f"no name here is forwarded to {model}, so the request log has nothing of it",
            hint=f"{command(folder.name, 'serve', model)} --to forward",
        )
    sampler = Sampler(rule)
    found: list[FoundPrompt] = []
    answers: dict[str, RequestRecord] = {}
    skipped: Counter[str] = Counter()
    for record in workspace.requests.every():
        if record.endpoint not in of_it:
            continue
        asked = _asked(record, sampler)
        if isinstance(asked, str):
            skipped[asked] += 1
            continue
        found.append(asked)
        whole = record.status == "ok" and record.finish_reason not in _CUT and record.completion.strip()
        if whole and record.model == of_it[record.endpoint]:
            answers.setdefault(asked.id, record)
    return Logged(found, answers, dict(sorted(skipped.items())))


def keep_answers(folder: RescueFolder, model: str, logged: Logged, prompts: Sequence[RecordedPrompt]) -> None:
    """Keep the log's answers to prompts that were drawn and not recorded; what was kept before stays.

    Raises:
        DamagedError: What was kept before is not as it was written.
        ResourceError: They cannot be written.
    """
    there = {each.id: each for each in answers_kept(folder, model)}
    known = {*there, *(each.id for each in folder.answers(model))}
    for prompt in prompts:
        if prompt.id in logged.answers and prompt.id not in known:
            there[prompt.id] = _recording(prompt, model, logged.answers[prompt.id])
    folder.write_lines(folder.of_model(model) / ANSWERED, there.values())


def answers_kept(folder: RescueFolder, model: str) -> list[Recording]:
    """Return what was kept of the request log.

    Raises:
        DamagedError: A line is no recording.
    """
    return list(folder.lines(folder.of_model(model) / ANSWERED, Recording))


def _asked(record: RequestRecord, sampler: Sampler) -> FoundPrompt | str:
    """Return what a call asked, or the reason why it is not taken."""
    if not record.messages:
        return "text_not_kept"
    try:
        asked = prompt_of(_as_sent(record.messages), "requests")
    except NoPrompt:
        return "bad_row"
    why = sampler.skip(record.id, record.subject, record.metadata)
    return why.reason if why else asked


def _as_sent(messages: Sequence[Message]) -> dict[str, Any]:
    """Return a conversation as it is sent: functions as tools, calls and results with ids, counted from 0."""
    turns: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    waiting: list[str] = []
    called = 0
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "system":
            described = read_functions(message.content)
            tools += [{"type": "function", "function": function} for function in described.functions]
            turn["content"] = described.text
            if described.functions and not described.text:
                continue
        elif message.role == "assistant":
            said = read_answer(message.content)
            if said.calls:
                turn |= {"content": said.text or None, "tool_calls": calls_of(said.calls, called)}
                waiting += [call["id"] for call in turn["tool_calls"]]
                called += len(said.calls)
        elif message.role == "tool" and waiting:
            turn["tool_call_id"] = waiting.pop(0)
        turns.append(turn)
    if turns and turns[-1]["role"] == "assistant":
        turns.pop()  # the beginning of the answer that was asked for, which nobody gave as true
    return {"messages": turns, "tools": tools}


def calls_of(calls: Sequence[ToolCall], first: int = 0) -> list[dict[str, Any]]:
    """Return calls as chat completions write them, with ids counted from a number."""
    return [
        {"id": f"call_{number}", "type": "function", "function": call._asdict()}
        for number, call in enumerate(calls, first)
    ]


def _recording(prompt: RecordedPrompt, model: str, record: RequestRecord) -> Recording:
    said = read_answer(record.completion)
    return Recording(
        **prompt.model_dump(include=set(RecordedPrompt.model_fields)),
        model=model,
        answer=said.text,
        tool_calls=tuple(calls_of(said.calls)),
        finish=record.finish_reason or "stop",
        at=record.created_at,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        usd=record.usd,
    )
