"""What an old model is asked again: prompts of files and logs, with their owners' answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.config import NonEmpty, Record
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.figures import one_line
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.tool_text import OPEN, NotACall, call_of, functions_of, read_answer, write_answer
from tunery.evaluate.readers.files import load
from tunery.rescue.folder import RescueFolder
from tunery.rescue.records import Inventory, RecordedPrompt, Recording, SourceJob
from tunery.text.normalise import HALF_A_PAIR, is_unicode
from tunery.text.sameness import fingerprint

PROMPTS = "prompts.jsonl"
_SHORT = 80
"""Longest answer that is a word or a label [characters]."""
FEW_LABELS = 500
_LONGEST = 500
"""Of what is said of one file [characters]."""
_QUESTIONS = ("prompt", "question", "input", "query", "text")
_TRUTHS = ("completion", "answer", "output", "response", "label", "ideal")


class FoundPrompt(NamedTuple):
    """A prompt before it is known what it is for."""

    origin: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    truth: str | None = None

    @property
    def id(self) -> str:
        """Hash of all that the model reads."""
        return sha256_text(canonical_json([list(self.messages), list(self.tools)]))[:24]

    @property
    def text(self) -> str:
        """What tells it from others: every turn but the instruction that all share."""
        return _told(self.messages)

    @property
    def beginnings(self) -> Iterator[str]:
        """Texts of the prompts that it goes on from: their answers stand in it, so it trains on them."""
        for place, turn in enumerate(self.messages[:-1], 1):
            if turn.get("role") == "user" and self.messages[place].get("role") == "assistant":
                yield _told(self.messages[:place])


_INSTRUCTING = frozenset({"system", "developer"})


def are_labels(answers: Sequence[str]) -> bool:
    """Tell whether answers are labels: a few short ones, each given several times.

    >>> are_labels(["yes", "no", "yes", "no"]), are_labels(["yes", "no"]), are_labels(["yes", "yes"])
    (True, False, False)
    """
    different = set(answers)
    few = 2 <= len(different) <= min(FEW_LABELS, len(answers) // 2)
    return few and all(is_short(answer) for answer in different)


def is_short(answer: str) -> bool:
    """Tell whether an answer may be held against another word by word."""
    return len(answer) <= _SHORT and "\n" not in answer and OPEN not in answer


class PromptFile(Record):
    """A file of prompts."""

    path: Path
    origin: NonEmpty


def _told(turns: Iterable[Mapping[str, Any]]) -> str:
    return "\n".join(text_of(turn) for turn in turns if turn.get("role") not in _INSTRUCTING)


def text_of(turn: Mapping[str, Any]) -> str:
    """Return the words of a turn, whichever shape its content has; other parts count as they are."""
    content = turn.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "\n".join(str(part.get("text") or canonical_json(part)) for part in content)
    return canonical_json(turn.get("tool_calls") or "")


def job_sources(folder: RescueFolder, job: SourceJob | None) -> list[PromptFile]:
    """Return the files of a job that are here."""
    named = [(job.training_file, "training_file"), (job.validation_file, "validation_file")] if job else []
    here = [(folder.file(id), origin) for id, origin in named if id]
    return [PromptFile(path=path, origin=origin) for path, origin in here if path.is_file()]


def job_of(inventory: Inventory, model: str) -> SourceJob | None:
    """Return the job that made a model, None where none that could be listed did.

    Raises:
        NotFoundError: The inventory has no such model.
    """
    found = next((each for each in inventory.models if each.id == model), None)
    if found is None:
        raise NotFoundError.of("fine-tuned model", model, [each.id for each in inventory.models])
    return next((job for job in inventory.jobs if job.id == found.job_id), None)


class Prompts(NamedTuple):
    """What was found, and what of it could not be understood."""

    found: list[FoundPrompt]
    left_out: list[str]
    """``FILE: row 3: what is wrong with it``, a sentence each."""


def read_prompts(source: PromptFile) -> Prompts:
    """Return the prompts of a file in any form that trains: chat, preference, prompt and completion, columns.

    A row that cannot be understood takes no other with it.

    Raises:
        ConfigError: It cannot be read, or has no row that can be understood; lists the first by number.
    """
    problems: list[str] = []
    found: list[FoundPrompt] = []
    for number, row in load(source.path, problems):
        try:
            found.append(prompt_of(row, source.origin))
        except NoPrompt as bad:
            problems.append(f"row {number}: {bad}")
    if not found:
        raise ConfigError.of_problems(str(source.path), problems or ["there is no row in the file"], limit=20)
    return Prompts(found, [f"{source.path}: {problem}" for problem in problems])


def all_prompts(folder: RescueFolder, job: SourceJob | None, logs: Sequence[Path]) -> Prompts:
    """Return the prompts of a job's files that are here, and of further files.

    What a source's own file has wrong nobody here can mend, so one that cannot be read is left out whole.

    Raises:
        ConfigError: A further file cannot be read, or has no row that can be understood.
    """
    every = Prompts([], [])
    for source in [*job_sources(folder, job), *(PromptFile(path=path, origin="log") for path in logs)]:
        try:
            some = read_prompts(source)
        except ConfigError as error:
            if source.origin == "log":
                raise
            some = Prompts([], [one_line(error.message, _LONGEST)])
        every.found.extend(some.found)
        every.left_out.extend(some.left_out)
    return every


class NoPrompt(ValueError):  # noqa: N818 - the message says what is wrong with the row
    """A row asks nothing that a model could answer."""


def prompt_of(row: Any, origin: str) -> FoundPrompt:
    """Return what a row asks, with its last answer as what its owner wrote.

    Raises:
        NoPrompt: It asks nothing; says why.
    """
    if not isinstance(row, Mapping):
        raise NoPrompt("must be an object, or a line of a table")
    inner = row["input"] if isinstance(row.get("input"), Mapping) else row
    messages = inner.get("messages")
    truth: Any = None
    if isinstance(messages, list):
        turns = _turns_of(messages, "messages")
        if turns and turns[-1].get("role") == "assistant":
            truth = said(turns.pop())
        preferred = row.get("preferred_output")
        if isinstance(preferred, list) and preferred:
            truth = said(_turns_of(preferred, "preferred_output")[-1])
        # ``weight`` and the like train; they are nothing that a model is asked with.
        turns = [{k: v for k, v in turn.items() if k != "weight" and v is not None} for turn in turns]
    else:
        question = next((row[key] for key in _QUESTIONS if isinstance(row.get(key), str)), None)
        turns = [{"role": "user", "content": question}] if question else []
    if truth is None:
        truth = next((row[key] for key in _TRUTHS if isinstance(row.get(key), str)), None)
    if not any(turn.get("role") == "user" for turn in turns):
        wanted = f"messages with a user turn, or text under {', '.join(_QUESTIONS)}"
        raise NoPrompt(f"no prompt found in it; needs {wanted}")
    found = FoundPrompt(origin, tuple(turns), tools_of(inner.get("tools")), truth)
    _check_text(found)
    return found


def _turns_of(messages: Sequence[Any], field: str) -> list[Mapping[str, Any]]:
    for number, turn in enumerate(messages):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
            raise NoPrompt(f"{field}[{number}]: must be an object with role and content")
        content = turn.get("content")
        parts = isinstance(content, list) and all(isinstance(part, Mapping) for part in content)
        if not (content is None or isinstance(content, str) or parts):
            raise NoPrompt(f"{field}[{number}].content: must be text, or a list of parts")
    return list(messages)


def _check_text(found: FoundPrompt) -> None:
    """Refuse what could neither be sent nor kept."""
    try:
        text = json.dumps([found.messages, found.tools, found.truth], ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise NoPrompt("holds a value that JSON has not") from None
    if not is_unicode(text):
        raise NoPrompt(HALF_A_PAIR)


def tools_of(given: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the tools that a request offers, none where none are given.

    Raises:
        NoPrompt: They are no functions.
    """
    if not given:
        return ()
    try:
        functions_of(given)
    except NotACall as bad:
        raise NoPrompt(f"tools: {bad}") from None
    return tuple(given)


def said(turn: Mapping[str, Any]) -> str | None:
    """Return an assistant's turn as text, its calls in the words that rows are trained in; None for nothing.

    Raises:
        NoPrompt: It calls what is no function; says why.
    """
    content = turn.get("content")
    calls = turn.get("tool_calls")
    if not calls:
        return text_of(turn) if isinstance(content, list) else content if isinstance(content, str) else None
    try:
        return written(text_of({"content": content or ""}), calls)
    except NotACall as bad:
        raise NoPrompt(f"tool_calls: {bad}") from None


def written(text: str, calls: Any) -> str:
    """Return an answer with the calls that stand beside it in the protocol, as text.

    Raises:
        NotACall: One is none.
    """
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise NotACall("must be a list of calls")
    given = [call.get("function") if isinstance(call, Mapping) else None for call in calls]
    functions = [function for function in given if isinstance(function, Mapping)]
    if len(functions) < len(given):
        raise NotACall("only calls of functions are known")
    return write_answer(text, [call_of(f.get("name"), f.get("arguments")) for f in functions])


def answered(recording: Recording) -> str | None:
    """Return what the old model answered, as text; None for a call that cannot be written as one."""
    try:
        return written(recording.answer, recording.tool_calls) if recording.tool_calls else recording.answer
    except NotACall:
        return None


def same_answer(one: str | None, other: str | None) -> bool:
    """Tell whether two answers say the same but for case and spacing, or make the same calls.

    >>> same_answer("Yes ", "yes")
    True
    >>> call = '<tool_call>{"name":"add","arguments":%s}</tool_call>'
    >>> same_answer(call % '{"a":1,"b":2}', call % '{"b":2,"a":1}')
    True
    """
    if one is None or other is None:
        return False
    calls = [
        sorted(canonical_json([call.name, json.loads(call.arguments)]) for call in read_answer(text).calls)
        for text in (one, other)
    ]
    return calls[0] == calls[1] if any(calls) else fingerprint(one) == fingerprint(other)


def known_prompts(folder: RescueFolder, model: str) -> list[RecordedPrompt]:
    """Return the prompts drawn before.

    Raises:
        DamagedError: A line is no prompt.
    """
    return list(folder.lines(folder.of_model(model) / PROMPTS, RecordedPrompt))


def write_prompts(folder: RescueFolder, model: str, prompts: Sequence[RecordedPrompt]) -> None:
    """Write the prompts with what each is for, which later calls do not change.

    Raises:
        ResourceError: They cannot be written.
    """
    folder.write_lines(folder.of_model(model) / PROMPTS, prompts)
