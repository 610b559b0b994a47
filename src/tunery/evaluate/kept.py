"""Answers of an evaluation under way, on disk, so that one that is killed goes on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from tunery.core.engine import FinishReason, Generation, Score
from tunery.store.growing_lines import GrowingLines

_FORMAT = 1


class Answer(NamedTuple):
    """What an evaluation keeps of a finished completion."""

    text: str
    finish_reason: FinishReason | Literal["error"]
    """``error`` where something else than an engine failed to answer."""
    prompt_tokens: int
    completion_tokens: int
    """The stop token counted where it ended the completion [count]."""
    latency_ms: float
    reason: str | None = None
    """Why there is no answer."""
    logprob: float | None = None
    """Of the whole answer [nats], where confidence was asked for."""

    @classmethod
    def of(cls, generation: Generation) -> Self:
        """Return what is kept of a completion."""
        return cls(
            generation.text,
            generation.finish_reason,
            generation.prompt_tokens,
            generation.completion_tokens,
            generation.latency_ms,
            logprob=sum(t.logprob or 0.0 for t in generation.tokens) if generation.tokens else None,
        )


NOTHING = Answer("", "length", 0, 0, 0.0)
"""The answer of a row that could not be put to the engine."""


class KeptAnswers:
    """Answers and likelihoods by name, each batch on disk before the next is begun; ``with`` closes the file.

    Args:
        path: The file; None keeps them in memory alone.
        identity: What they belong to. A file of something else, or one that cannot be read, is begun anew.

    Raises:
        BusyError: Another process is at the same evaluation.
    """

    def __init__(self, path: Path | None = None, identity: str = "") -> None:
        self.answers: dict[str, Answer] = {}
        self.scores: dict[str, Score] = {}
        self._file = None if path is None else GrowingLines(path)
        if self._file is not None and not self._read(self._file.lines, identity):
            self.answers, self.scores = {}, {}
            self._file.restart()
            self._file.append([{"answers": _FORMAT, "identity": identity}])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add_answers(self, answers: Mapping[str, Answer]) -> None:
        """Keep a batch of answers under the ids of their rows."""
        self.answers |= answers
        self._write({"answer": name, "is": answer} for name, answer in answers.items())

    def add_scores(self, scores: Mapping[str, Score]) -> None:
        """Keep a batch of likelihoods; one that is no number is computed again where they are read."""
        self.scores |= scores
        finite = {name: score for name, score in scores.items() if math.isfinite(score.logprob)}
        self._write({"score": name, "is": score} for name, score in finite.items())

    def _read(self, lines: Sequence[bytes], identity: str) -> bool:
        """Take what the lines hold; return whether they belong to the identity and all can be read."""
        try:
            entries = [json.loads(line) for line in lines]
            if not entries or entries[0] != {"answers": _FORMAT, "identity": identity}:
                return False
            for entry in entries[1:]:
                if "answer" in entry:
                    self.answers[entry["answer"]] = Answer(*entry["is"])
                else:
                    self.scores[entry["score"]] = Score(*entry["is"])
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def _write(self, entries: Iterable[Mapping[str, Any]]) -> None:
        if self._file is not None:
            self._file.append(entries)
