"""Seeds: the training rows that synthetic ones are written after, and the requests made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, did_you_mean
from tunery.core.example import SEED_PROMPTS, Example, Message, without_system
from tunery.core.ids import canonical_json, sampling_key, sha256_text
from tunery.endpoint.requests import request_key
from tunery.synthesise.config import SynthesiseConfig
from tunery.synthesise.prompts import prompt

_OTHER_LABELS = 100
"""Classes named beside the one to write for; more would cost more than they help."""


class RequestSpec(NamedTuple):
    """One request to the teacher."""

    number: int
    """Counted from 0."""
    key: str
    turns: Sequence[Mapping[str, str]]
    seeds: tuple[Example, ...]
    """Rows shown to the teacher."""
    output: str | None
    """The output of every row requested; None where the teacher writes it."""
    opening: tuple[Message, ...]
    """Turns that stand before the new input."""


class Seeds:
    """The pool of seed rows and the endless, fixed sequence of requests made from it.

    Request ``i`` depends on the pool, the settings and ``i`` alone, so that a call that goes on after a kill
    sends exactly what the killed one would have sent.

    Args:
        version: The dataset version.
        train: Its training rows. Synthetic ones among them are left out: what a teacher made of its own
            rows drifts away from what users write.
        config: The settings.
        task: What the tuned model is for.

    Raises:
        ConfigError: Nothing to make rows from, preference pairs, or classes that do not exist.
    """

    def __init__(
        self, version: DatasetVersion, train: Sequence[Example], config: SynthesiseConfig, task: str | None
    ) -> None:
        if version.preference:
            raise ConfigError(
                "the recipe's rows are preference pairs; synthetic rows are made for single answers only"
            )
        self._config = config
        self._task = task
        self._system = version.system_prompt
        self.prompt = prompt(config.method)
        """The prompt to the teacher."""
        single = config.method != "paraphrase"
        usable = [e for e in train if not is_synthetic(e) and _is_usable(e, single=single)]
        self.pool = sorted(usable, key=lambda e: sampling_key(config.seed, "synthetic", e.id))
        if not self.pool:
            what = "one user turn" if single else "a user turn last before the answer"
            raise ConfigError(
                f"no training row of {version.id} has {what}, so method {config.method} has no seeds",
                hint=f"tunery data show {version.id}",
            )
        self._classes: dict[str, list[Example]] = defaultdict(list)
        for example in self.pool:
            if example.label is not None:
                self._classes[example.label].append(example)
        self.labels = tuple(sorted(self._classes))
        self._wanted = self._check_labels() if config.method == "label" else ()

    @property
    def identity(self) -> str:
        """Hash of what decides the requests: pool, method, prompt, teacher; not amounts or budget."""
        config = self._config
        about = [config.method, config.seed, [e.id for e in self.pool], self.prompt.version]
        return request_key(config.teacher, about)

    def request(self, index: int) -> RequestSpec:
        """Return request number ``index``, counted from 0."""
        config, turn, output = self._config, 0, None
        if config.method == "paraphrase":
            turn, place = divmod(index, len(self.pool))
            seeds: tuple[Example, ...] = (self.pool[place],)
            output = seeds[0].reference
            earlier = [{"role": m.role, "content": m.content} for m in without_system(seeds[0].prompt[:-1])]
            values: dict[str, Any] = {"earlier": earlier, "input": question(seeds[0]), "output": output}
        elif config.method == "label":
            turn, place = divmod(index, len(self._wanted))
            output = self._wanted[place]
            seeds = _window(self._classes[output], turn, config.examples, config.seed)
            others = [label for label in self.labels if label != output][:_OTHER_LABELS]
            values = {"label": output, "others": others, "examples": [question(e) for e in seeds]}
        else:
            seeds = _window(self.pool, index, config.examples, config.seed)
            examples = [{"input": question(e), "output": e.reference} for e in seeds]
            values = {"examples": examples, "labels": self.labels[:_OTHER_LABELS]}
        # Each lap asks for another manner of the same seeds.
        values |= {"task": self._task, "count": config.rows_per_request, "index": index + turn}
        turns = self.prompt.turns(values)
        about = {
            "method": config.method,
            "seeds": [e.id for e in seeds],
            "index": index,
            "prompt": self.prompt.version,
            "turns": sha256_text(canonical_json(turns)),
        }
        key = request_key(config.teacher, about)
        return RequestSpec(index, key, turns, seeds, output, self._opening(seeds[0]))

    def _opening(self, seed: Example) -> tuple[Message, ...]:
        """Return the turns before a new input; the recipe puts its own system prompt back by itself."""
        kept = [
            m for i, m in enumerate(seed.prompt[:-1])
            if not (i == 0 and m.role == "system" and m.content == self._system)
        ]  # fmt: skip
        # Earlier answers are learnt from the seed row itself, once.
        return tuple(m.with_(weight=0) if m.role == "assistant" else m for m in kept)

    def _check_labels(self) -> tuple[str, ...]:
        if not self.labels:
            raise ConfigError(
                "method label needs classes, but the answers are open text",
                hint="use --method self_instruct, or set labels: closed in the recipe",
            )
        problems = [
            f"no training row has the class {label!r}{did_you_mean(label, self.labels)}"
            for label in self._config.labels
            if label not in self._classes
        ]
        if problems:
            raise ConfigError.of_problems("labels", problems)
        return tuple(dict.fromkeys(self._config.labels)) or self.labels


def is_synthetic(example: Example) -> bool:
    """Tell whether a row came from a file of synthetic rows."""
    return SEED_PROMPTS in example.metadata


def question(example: Example) -> str:
    """Return the last turn before the answer."""
    return example.prompt[-1].content


def _is_usable(example: Example, *, single: bool) -> bool:
    if not example.prompt or example.prompt[-1].role != "user" or not question(example).strip():
        return False
    return not single or all(m.role == "system" for m in example.prompt[:-1])


def _window(rows: Sequence[Example], turn: int, size: int, seed: int) -> tuple[Example, ...]:
    """Return the next ``size`` rows; each lap around all of them is in another order, so none repeats."""
    size = min(size, len(rows))
    lap, place = divmod(turn, -(-len(rows) // size))
    order = rows if lap == 0 else sorted(rows, key=lambda e: sampling_key(seed, "lap", lap, e.id))
    return tuple(order[(place * size + i) % len(order)] for i in range(size))
