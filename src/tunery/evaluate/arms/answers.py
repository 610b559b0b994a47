"""Answers that people or another system gave, found by the row's id or by what was asked.

Turns are found as a whole before they are found by their last one: conversations end alike, as in "yes".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError, listed
from tunery.core.example import Example, where
from tunery.core.figures import counted
from tunery.core.ids import canonical_json, sha256_file
from tunery.evaluate.ask import Completions
from tunery.evaluate.kept import Answer
from tunery.evaluate.prompting import Subject
from tunery.evaluate.readers.files import load
from tunery.evaluate.task import Task
from tunery.text.sameness import words_alone

_ANSWER_KEYS = ("answer", "prediction", "output", "completion")
_PROMPT_KEYS = ("prompt", "question", "input", "messages")
_SHOWN = 5


class GivenAnswers:
    """A file of answers, read whole.

    Args:
        path: JSON lines, JSON, CSV, TSV or Parquet; each row has ``id`` or ``prompt`` (a text, or turns,
            which are found by all of them, else by all but system turns, where that is one row's alone), and
            ``answer``. A text is the last turn of whatever ends with it.

    Raises:
        ConfigError: The file cannot be read or has bad rows; lists them by number.
    """

    def __init__(self, path: Path) -> None:
        problems: list[str] = []
        self.path, self._exact, self._wider = path, dict[str, str](), dict[str, str]()
        ambiguous: set[str] = set()
        for number, value in load(path, problems):
            keys = _keys(value)
            given = (
                next((value[k] for k in _ANSWER_KEYS if isinstance(value.get(k), str)), None)
                if keys
                else None
            )
            if given is None:
                problems.append(f"row {number}: needs 'id' or 'prompt', and 'answer' as text")
            elif self._exact.setdefault(keys[0], given) != given:
                problems.append(f"row {number}: another answer to {keys[0].partition(' ')[2]!r:.80}")
            else:
                ambiguous |= {key for key in keys[1:] if self._wider.setdefault(key, given) != given}
        for key in ambiguous:
            del self._wider[key]
        if problems:
            raise ConfigError.of_problems(str(path), problems, limit=20)

    def of(self, example: Example) -> str | None:
        """Return the answer to a row, None where there is none."""
        turns = [(turn.role, turn.content) for turn in example.prompt]
        keys = [f"id {example.id}", *_keys_of(turns)]
        asked = [_asked(turns[-1][1])] if turns else []
        places = ((self._exact, [*keys, *asked]), (self._wider, keys))
        return next((found[key] for found, names in places for key in names if key in found), None)

    def shared(self, task: Task) -> Task:
        """Return the task on the rows that have an answer.

        Raises:
            ConfigError: None has.
        """
        rows = tuple(e for e in task.examples if self.of(e) is not None)
        if not rows:
            raise ConfigError(
                f"{self.path}: answers none of {counted(len(task.examples), 'test row')}",
                hint="give each answer the id of its row (tunery data show) or its prompt",
            )
        return replace(task, examples=rows)

    def missing(self, examples: Sequence[Example]) -> str | None:
        """Say which rows have no answer; None where all have one."""
        without = [where(e) for e in examples if self.of(e) is None]
        if not without:
            return None
        return (
            f"{self.path} has no answer to {len(without)} of {counted(len(examples), 'test row')}: "
            f"{listed(without, _SHOWN)}; compared on the others"
        )

    def subject(self, name: str) -> Subject:
        """Return who gave the answers, as a subject."""
        about = {"arm": "answers", "file": sha256_file(self.path)}
        return Subject(name, self.path.name, engine=about, perplexity=False)

    def completions(self, task: Task) -> Completions:
        """Return the answers to a task of which every row has one."""
        return Completions(tuple(Answer(self.of(e) or "", "stop", 0, 0, 0.0) for e in task.examples), {}, 0)


def _keys(value: Any) -> list[str]:
    """Return what a row is found by, the narrowest first; nothing where it says neither."""
    if not isinstance(value, Mapping):
        return []
    identity = value.get("id")
    if isinstance(identity, (str, int)) and not isinstance(identity, bool) and identity != "":
        return [f"id {identity}"]
    asked = next((value[k] for k in _PROMPT_KEYS if value.get(k)), None)
    if isinstance(asked, str):
        return [_asked(asked)]
    if not isinstance(asked, Sequence) or not all(isinstance(turn, Mapping) for turn in asked):
        return []
    turns = [(str(turn.get("role")), turn.get("content")) for turn in asked]
    texts = [(role, content) for role, content in turns if isinstance(content, str)]
    if len(texts) == len(turns):
        return _keys_of(texts)
    return [_asked(turns[-1][1])] if isinstance(turns[-1][1], str) else []


def _keys_of(turns: Sequence[tuple[str, str]]) -> list[str]:
    """Return what a conversation is found by: all of it, all but system turns; one turn by its words, too."""
    said = [turn for turn in turns if turn[0] not in ("system", "developer")]
    whole = [f"turns {turns_key(each)}" for each in (turns, said)]
    return [*whole, _asked(said[0][1])] if len(said) == 1 else whole


def turns_key(turns: Iterable[tuple[str, str]]) -> str:
    """Return what a conversation is found by: roles and texts, whatever the spacing."""
    return canonical_json([[role, " ".join(text.split())] for role, text in turns])


def _asked(text: str) -> str:
    """Return the key of a question: its words alone, or the text itself where it has none."""
    return f"prompt {words_alone(text) or text}"
