"""What the model reads: the conversation as trained, or the best prompt we can give the base."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any, NamedTuple

from tunery.core.engine import Constraint, Tokenizer
from tunery.core.errors import ConfigError, RefusedByTemplate
from tunery.core.example import Example, Message
from tunery.core.figures import counted
from tunery.core.ids import in_order
from tunery.evaluate.config import BaselineConfig
from tunery.evaluate.metrics import PERPLEXITY, PREFERENCE_ACCURACY
from tunery.evaluate.retrieval import Likeness, Retriever, Room
from tunery.evaluate.task import Task, by_class

LABELS_PLACE = "{labels}"
_RETRIEVED_ROWS = 200
"""Test rows up to which `auto` gives each question a prompt of its own [rows]."""
_NO_ANSWER = Message(role="assistant", content="")


@dataclass(frozen=True, slots=True)
class Prompting:
    """How an example becomes a conversation for the model to continue.

    The default shows the example as training did.
    """

    instruction: str | None = None
    """Appended to the example's own system turn, after an empty line."""
    system_prompt: str | None = None
    """Takes the place of the example's own system turn."""
    shots: tuple[Example, ...] = ()
    """Solved examples, shown as user and assistant turns between the system turn and the question."""
    constraint: Constraint | None = None
    """What the answer is forced to be."""
    day: date | None = None
    """Day that a chat template which writes one is given; None for the day of asking."""
    retriever: Retriever | None = None
    """Chooses further solved examples for each question."""

    def chosen_for(self, example: Example) -> tuple[Example, ...]:
        """Return the solved examples that were chosen for this question alone."""
        return () if self.retriever is None else self.retriever.shots(example)

    def conversation(self, example: Example) -> tuple[Message, ...]:
        """Return the turns up to where the model is to answer."""
        own, turns = _split_system(example.prompt)
        system = self.system_prompt if self.system_prompt is not None else own
        system = "\n\n".join(part for part in (system, self.instruction) if part)
        solved = [
            turn
            for shot in (*self.shots, *self.chosen_for(example))
            for turn in _split_system(shot.messages)[1]
        ]
        opening = (Message(role="system", content=system),) if system else ()
        return (*opening, *solved, *turns)

    def shown(self, example: Example) -> str:
        """Return what is asked for an example, for people to read."""
        return "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in self.conversation(example))

    def describe(self) -> dict[str, Any]:
        """Return what made the prompt, for the evaluation's record and id."""
        held_to = None
        if self.constraint is not None:
            held_to = "json_schema" if self.constraint.labels is None else "labels"
        described: dict[str, Any] = {
            "instruction": self.instruction,
            "system_prompt": self.system_prompt,
            "shots": [shot.id for shot in self.shots],
            "constrained_to": held_to,
            **({"retrieved": self.retriever.describe()} if self.retriever else {}),
            **({"day": self.day.isoformat()} if self.day else {}),
        }
        schema = self.constraint.json_schema if self.constraint is not None else None
        if self.instruction is None and schema is not None and in_order(schema) is not schema:
            # Properties are answered in their order, which an instruction would tell by showing the schema.
            described["schema"] = in_order(schema)
        return described


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is evaluated and how it is asked."""

    name: str
    """``zero_shot``, ``few_shot``, ``few_shot_retrieved``, these with ``_constrained``, ``tuned``,
    ``name@3``."""
    base: str
    """Base model's name and hash, ``name@sha256:…``."""
    adapter: str | None = None
    """Adapter id, under which the engine has it loaded; None for the base alone."""
    whole: bool = False
    """Whether the adapter is a model of its own, which the engine has as its base."""
    prompting: Prompting = field(default_factory=Prompting)
    perplexity: bool = True
    """Whether to measure perplexity and preference accuracy, where the task does."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """What its answers depend on in the engine that gives them, JSON-ready."""

    @property
    def loaded_as(self) -> str | None:
        """Name under which the engine holds its adapter; None where the engine's base answers."""
        return None if self.whole else self.adapter


def prompt_lengths(tokenizer: Tokenizer, prompting: Prompting, examples: Sequence[Example]) -> dict[str, int]:
    """Return each example's id and how long its prompt is [tokens], without those that are refused."""
    on_day = tokenizer if prompting.day is None else tokenizer.on_day(prompting.day)
    lengths = {}
    for example in examples:
        with contextlib.suppress(RefusedByTemplate):
            lengths[example.id] = len(on_day.render_prompt(prompting.conversation(example)))
    return lengths


class Window(NamedTuple):
    """What a base can read and write at once, and who is told where that is too little."""

    tokens: int
    """Of a prompt and its answer together [count]."""
    warn: Callable[[str], None] = lambda _: None


def baseline_subjects(  # noqa: PLR0913 - each comes from another place
    task: Task,
    train: Sequence[Example],
    *,
    base: str,
    tokenizer: Tokenizer,
    window: Window | None = None,
    day: date | None = None,
    likeness: Likeness | None = None,
) -> tuple[Subject, ...]:
    """Return the prompted baselines that the settings ask for, in the order to measure them.

    Constrained ones differ from their unconstrained twins only in what may be answered, so their
    perplexity is the same and is not measured again unless it is what decides.

    Args:
        train: The train split, the only place that solved examples come from.
        base: Base model's name and hash.
        window: Of the base: solved examples that do not fit it with the question and the answer are left out.
        day: Day that a chat template which writes one is given.
        likeness: By what the nearest solved examples of a question are found.

    Raises:
        ConfigError: Few-shot is asked for and the train split is empty, shares a group with the test
            rows, or has no example short enough; ``constrained`` is asked for with nothing to hold to; or
            not one question fits the window.
    """
    settings = task.config.baseline
    prompt = replace(base_prompt(settings, task), day=day)
    room = None if window is None else _room(task, prompt, tokenizer, window)
    constraint = _constraint(settings, task)
    decides = task.main_metric in (PERPLEXITY, PREFERENCE_ACCURACY)
    prompts: list[tuple[str, Prompting]] = []
    if settings.zero_shot:
        prompts.append(("zero_shot", prompt))
    if settings.few_shot:
        shots = draw_shots(train, task.examples, settings=settings, tokenizer=tokenizer)
        if room is not None and window is not None:
            shots = _fitting(shots, task, prompt, tokenizer, room, window.warn)
        if shots:
            prompts.append(("few_shot", replace(prompt, shots=shots)))
    if shows_nearest(settings, task) and train:
        tokens = None if room is None else room.prompt_tokens
        nearest = _retriever(train, task, prompt, tokenizer, tokens, likeness or Likeness())
        prompts.append(("few_shot_retrieved", replace(prompt, retriever=nearest)))
    subjects = []
    for name, plain in prompts:
        subjects.append(Subject(name, base, prompting=plain, perplexity=settings.perplexity or decides))
        if constraint is not None:
            held = replace(plain, constraint=constraint)
            subjects.append(Subject(f"{name}_constrained", base, prompting=held, perplexity=decides))
    return tuple(subjects)


class _Room(NamedTuple):
    """What a base's window leaves of itself."""

    prompt_tokens: int
    """That a prompt may have [count]."""
    questions: Sequence[Example]
    """Test rows that show whether solved examples fit: the longest, and one of each order of turns."""


def _room(task: Task, prompt: Prompting, tokenizer: Tokenizer, window: Window) -> _Room:
    """Return how long prompts may be.

    Raises:
        ConfigError: Not one question fits the window without any solved example.
    """
    lengths = prompt_lengths(tokenizer, prompt, task.examples)
    fitting = [e for e in task.examples if lengths.get(e.id, window.tokens) < window.tokens]
    if not fitting:
        raise ConfigError(
            f"evaluate.baseline: with its instructions no test row's prompt leaves room for an answer in the "
            f"base's window of {window.tokens:,} tokens"
            + (f" (the shortest has {min(lengths.values()):,})" if lengths else ""),
            hint="set a shorter evaluate.baseline.system_prompt, or a base with a wider window",
            param="evaluate.baseline.system_prompt",
        )
    # Where even a plain question has not all of max_new_tokens left, solved examples have no place.
    longest = max(fitting, key=lambda e: lengths[e.id])
    orders = {tuple(m.role for m in e.prompt): e for e in fitting}
    allowed = window.tokens - min(task.config.max_new_tokens, window.tokens - 1)
    return _Room(allowed, (longest, *orders.values()))


def _fitting(
    shots: tuple[Example, ...],
    task: Task,
    prompt: Prompting,
    tokenizer: Tokenizer,
    room: _Room,
    warn: Callable[[str], None],
) -> tuple[Example, ...]:
    """Return the solved examples that fit before every question; says how many were asked for."""
    left, refused = shots, False
    while left:
        lengths = prompt_lengths(tokenizer, replace(prompt, shots=left), room.questions)
        refused = len(lengths) < len({e.id for e in room.questions})
        if not refused and max(lengths.values()) <= room.prompt_tokens:
            break
        left = () if refused else left[:-1]
    if len(left) == len(shots):
        return left
    why = (
        "the base's chat template refuses them before some questions"
        if refused
        else f"with a question and evaluate.max_new_tokens = {task.config.max_new_tokens} no more fit the "
        "base's window"
    )
    if left and task.config.baseline.most_shots is None:
        return left  # as many as fit is what was wanted
    shown = f"{len(left)} of {counted(len(shots), 'solved example')} shown, because {why}"
    warn(f"evaluate.baseline.shots: {shown}{'' if left else '; the few-shot baseline is left out'}")
    return left


def shows_nearest(settings: BaselineConfig, task: Task) -> bool:
    """Return whether each question gets the nearest solved examples; `auto` stops where that takes long."""
    if settings.few_shot_retrieved == "auto":
        return settings.few_shot and len(task.examples) <= _RETRIEVED_ROWS
    return settings.few_shot_retrieved


def _retriever(
    train: Sequence[Example],
    task: Task,
    prompt: Prompting,
    tokenizer: Tokenizer,
    prompt_tokens: int | None,
    likeness: Likeness,
) -> Retriever:
    def fits(question: Example, shots: tuple[Example, ...]) -> bool:
        found = prompt_lengths(tokenizer, replace(prompt, shots=shots), [question])
        return question.id in found and (prompt_tokens is None or found[question.id] <= prompt_tokens)

    settings = task.config.baseline
    room = Room(settings.most_shots, settings.max_shot_tokens, partial(_shown_length, tokenizer), fits)
    return Retriever(train, task.examples, room=room, likeness=likeness)


def _shown_length(tokenizer: Tokenizer, example: Example) -> int | None:
    """Return how long a solved example is [tokens], None where the template refuses it."""
    alone = example.with_(messages=(*_split_system(example.messages)[1], _NO_ANSWER))
    return prompt_lengths(tokenizer, Prompting(), [alone]).get(example.id)


def draw_shots(
    train: Sequence[Example], test: Sequence[Example], *, settings: BaselineConfig, tokenizer: Tokenizer
) -> tuple[Example, ...]:
    """Draw solved examples from the train split: one of each class in turn, at random by seed.

    The draw does not depend on the order of ``train``. Classes are visited in a random order, so that
    fewer shots than classes favour none. Preference pairs show their preferred answer.

    Args:
        train: The train split.
        test: The rows to be evaluated on.
        settings: How many, how long together as rendered by the tokenizer, and the seed.

    Returns:
        At most ``settings.shots`` examples; fewer where train has fewer or they would be too long.

    Raises:
        ConfigError: Train is empty, no example is short enough, or a drawn one belongs to the same group
            as a test row, which would show the model (nearly) the answer.
    """
    if not train:
        raise ConfigError(
            "few-shot prompting needs solved examples, and the train split is empty",
            hint="set evaluate.baseline.few_shot=false",
        )
    held_out = {example.group for example in test}
    shots: list[Example] = []
    left = settings.max_shot_tokens
    for example in _shuffled_by_class(train, seed=settings.seed):
        if len(shots) == settings.most_shots:
            break
        length = _shown_length(tokenizer, example)
        if length is None or length > left:
            continue
        if example.group in held_out:
            raise ConfigError(
                f"train example {example.id} is of the same group as a test row ({example.group}); shown as "
                "a solved example it would give the answer away",
                hint="build the dataset version again: groups must not straddle splits",
            )
        left -= length
        shots.append(example)
    if not shots:
        raise ConfigError(
            f"no train example fits in evaluate.baseline.max_shot_tokens = {settings.max_shot_tokens}",
            hint="raise it, or set evaluate.baseline.few_shot=false",
        )
    return tuple(shots)


def _shuffled_by_class(examples: Sequence[Example], *, seed: int) -> list[Example]:
    """Return all examples, the first of each class before the second of any."""
    generator = random.Random(seed)  # noqa: S311 - a reproducible draw, not a secret
    classes = by_class(examples)
    labels = list(classes)
    generator.shuffle(labels)
    for label in labels:
        generator.shuffle(classes[label])
    most = max(len(rows) for rows in classes.values())
    return [classes[label][turn] for turn in range(most) for label in labels if turn < len(classes[label])]


def base_prompt(settings: BaselineConfig, task: Task) -> Prompting:
    """Return how a model that was not trained on the task is asked, without solved examples.

    Raises:
        ConfigError: The system prompt names labels that there are none of.
    """
    if settings.system_prompt is not None:
        if LABELS_PLACE in settings.system_prompt and not task.labels:
            raise ConfigError(
                f"evaluate.baseline.system_prompt holds {LABELS_PLACE}, and the outputs of this data are no "
                "closed label set",
                param="evaluate.baseline.system_prompt",
            )
        # Not str.format: prompts about JSON are full of braces.
        text = settings.system_prompt.replace(LABELS_PLACE, _listed(task.labels or ()))
        return Prompting(system_prompt=text)
    if task.labels:
        instruction = "Answer with exactly one of these labels and nothing else:\n" + _listed(task.labels)
        return Prompting(instruction)
    if task.config.json_schema:
        schema = json.dumps(task.config.json_schema, ensure_ascii=False)
        return Prompting(f"Answer with JSON that follows this JSON Schema and nothing else:\n{schema}")
    return Prompting()


def _listed(labels: Sequence[str]) -> str:
    return "\n".join(f"- {label}" for label in labels)


def _constraint(settings: BaselineConfig, task: Task) -> Constraint | None:
    if settings.constrained is False:
        return None
    if task.labels:
        return Constraint(labels=task.labels)
    if task.config.json_schema or (settings.constrained is True and task.kind == "json"):
        return Constraint(json_schema=task.config.json_schema or {"type": "object"})
    if settings.constrained is True:
        raise ConfigError(
            "evaluate.baseline.constrained is on, and the outputs are neither a closed label set nor JSON",
            hint="set evaluate.baseline.constrained=auto",
        )
    return None


def _split_system(messages: Sequence[Message]) -> tuple[str | None, tuple[Message, ...]]:
    """Return the leading system turn's text, if there is one, and the other turns."""
    if messages and messages[0].role == "system":
        return messages[0].content, tuple(messages[1:])
    return None, tuple(messages)
