"""Answers that people or another system gave, found by the row's id or by what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError, listed
from tunery.core.example import Example, where
from tunery.core.figures import counted
from tunery.core.ids import sha256_file
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
        path: JSON lines, JSON, CSV, TSV or Parquet; each row has ``id`` or ``prompt`` (a text, or turns of
            which the last is the question), and ``answer``.

    Raises:
        ConfigError: The file cannot be read or has bad rows; lists them by number.
    """

    def __init__(self, path: Path) -> None:
        problems: list[str] = []
        self.path, self._found = path, dict[str, str]()
        for number, value in load(path, problems):
            key = _key(value)
            given = (
                next((value[k] for k in _ANSWER_KEYS if isinstance(value.get(k), str)), None) if key else None
            )
            if key is None or given is None:
                problems.append(f"row {number}: needs 'id' or 'prompt', and 'answer' as text")
            elif self._found.setdefault(key, given) != given:
                problems.append(f"row {number}: another answer to {key.partition(' ')[2]!r:.80}")
        if problems:
            raise ConfigError.of_problems(str(path), problems, limit=20)

    def of(self, example: Example) -> str | None:
        """Return the answer to a row, None where there is none."""
        asked = _asked(example.prompt[-1].content) if example.prompt else ""
        return self._found.get(f"id {example.id}", self._found.get(asked))

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


def _key(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    identity = value.get("id")
    if isinstance(identity, (str, int)) and not isinstance(identity, bool) and identity != "":
        return f"id {identity}"
    asked = next((value[k] for k in _PROMPT_KEYS if value.get(k)), None)
    if isinstance(asked, Sequence) and not isinstance(asked, str) and isinstance(asked[-1], Mapping):
        asked = asked[-1].get("content")
    return _asked(asked) if isinstance(asked, str) else None


def _asked(text: str) -> str:
    """Return the key of a question: its words alone, or the text itself where it has none."""
    return f"prompt {words_alone(text) or text}"
