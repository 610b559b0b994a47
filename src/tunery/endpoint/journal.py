"""The journal: every request that was sent and every answer that was paid for, on disk before all else."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from tunery.core.errors import ConfigError, ConflictError
from tunery.endpoint.budget import Amount, total
from tunery.store.growing_lines import GrowingLines

_FORMAT = 1


class PaidAnswer(NamedTuple):
    """An answer that was paid for."""

    text: str
    finish: str
    """Why it ended: ``stop``, or ``length`` where the limit of tokens cut it off."""
    request_id: str
    endpoint: str
    """The host that answered."""
    at: str
    """When it arrived, ISO 8601 in UTC."""
    prompt_tokens: int
    completion_tokens: int
    metered: bool
    """Whether the endpoint counted the tokens; else they are the ceiling that was reserved."""
    usd: float
    latency_ms: float | None = None
    """From the request to the end of its answer, of the attempt that brought it; None in earlier journals."""
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    """As the protocol has them; None where the answer calls no tool."""
    logprobs: Sequence[Mapping[str, Any]] | None = None
    """Of each token of the answer, as the protocol has them; None where they were not requested."""

    @property
    def cost(self) -> Amount:
        """What it cost."""
        return Amount(self.prompt_tokens + self.completion_tokens, self.usd)


class Journal:
    """A file of JSON lines that outlives the process; ``with`` closes it.

    ``sent`` stands before a request leaves, ``done`` or ``unbilled`` after its end. A ``sent`` that nothing
    closes belongs to a process that was killed or an answer that never came: nobody knows whether it was
    billed, so it counts as spent, at its ceiling.

    Args:
        path: What it holds is read, a torn last line of it repaired.
        identity: Hash of the settings that it belongs to.

    Raises:
        BusyError: Another process has it open: each would spend the whole budget.
        ConflictError: The file belongs to other settings.
        ConfigError: It is damaged, or no journal at all.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self._identity = identity
        self._answers: dict[str, PaidAnswer] = {}
        self._large: dict[str, int] = {}
        """Request to where the line of its answer begins, of answers with log-probabilities [bytes]."""
        self._open: dict[str, list[Amount]] = defaultdict(list)
        with ExitStack() as on_error:
            self._file = on_error.enter_context(GrowingLines(path))
            begin = 0
            for number, line in enumerate(self._file.lines, start=1):
                self._replay(number, line, begin)
                begin += len(line) + 1
            if not self._file.lines:
                self._file.append([{"journal": _FORMAT, "identity": identity}])
            self._file.lines = []
            on_error.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def find(self, key: str) -> PaidAnswer | None:
        """Return the answer to a request that was paid for before, None where there is none.

        Its log-probabilities stay on the disk: they may be a thousand times its text (:meth:`whole`).
        """
        return self._answers.get(key)

    def whole(self, key: str) -> PaidAnswer | None:
        """Return an answer as :meth:`find` does, its log-probabilities with it."""
        answer = self._answers.get(key)
        if answer is None or key not in self._large:
            return answer
        return answer._replace(logprobs=json.loads(self._file.line_at(self._large[key]))["logprobs"])

    @property
    def answers(self) -> int:
        """Answers paid for [count]."""
        return len(self._answers)

    @property
    def lost(self) -> Amount:
        """What requests without a known end may have cost."""
        return total(itertools.chain.from_iterable(self._open.values()))

    @property
    def spent(self) -> Amount:
        """Answers and losses together."""
        return total([self.lost, *(answer.cost for answer in self._answers.values())])

    def sent(self, key: str, ceiling: Amount) -> None:
        """Note that a request is about to leave, and what it costs at most."""
        self._file.append([{"sent": key, **ceiling._asdict()}])
        self._open[key].append(ceiling)

    def unbilled(self, key: str) -> None:
        """Note that the endpoint turned the request away."""
        self._file.append([{"unbilled": key}])
        self._open[key].pop()

    def done(self, key: str, answer: PaidAnswer) -> None:
        """Keep an answer."""
        fields = {name: value for name, value in answer._asdict().items() if value is not None}
        begin = self._file.append([{"done": key, **fields}])
        self._open[key].pop()
        self._keep(key, answer, begin)

    def _keep(self, key: str, answer: PaidAnswer, begin: int) -> None:
        self._answers[key] = answer._replace(logprobs=None)
        self._large.pop(key, None)
        if answer.logprobs is not None:
            self._large[key] = begin

    def _replay(self, number: int, line: bytes, begin: int) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            if number == 1:
                self._check_header(entry)
            elif "sent" in entry:
                self._open[entry["sent"]].append(Amount(entry["tokens"], entry["usd"]))
            elif "unbilled" in entry:
                self._open[entry["unbilled"]].pop()
            else:
                key = entry.pop("done")
                self._keep(key, PaidAnswer(**entry), begin)
                self._open[key].pop()
        except (ValueError, KeyError, TypeError, IndexError):
            raise ConfigError(
                f"{self.path}: line {number} is no journal entry; the file is damaged",
                hint=f"restore it from a backup, or delete it and pay again: rm {self.path}",
            ) from None

    def _check_header(self, entry: dict[str, Any]) -> None:
        if entry["journal"] != _FORMAT:
            raise ConfigError(f"{self.path} was written by another version of tunery")
        if entry["identity"] != self._identity:
            raise ConflictError(
                f"{self.path} belongs to requests with other settings, prompts or rows",
                hint="choose another --out for these settings, or delete the journal with what was written",
            )
