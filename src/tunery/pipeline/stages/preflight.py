"""Stage 2: what exactly will be trained, and is the mask right? Costs nothing, stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import RefusedByTemplate, listed
from tunery.core.example import Message, where
from tunery.core.figures import counted
from tunery.core.tool_text import read_functions
from tunery.data.writers.openai import conversation
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.pipeline.context import RunContext
from tunery.pipeline.gateway.start import as_served
from tunery.pipeline.stages.data import tokenizer_of
from tunery.pipeline.stages.train import TrainingSplits, training_splits, trainings
from tunery.serve.openai.chat import ChatBody
from tunery.train.preflight import Preflight, preflight

_SHOWN = 5
"""Rows that a sentence names [count]."""


def training_limit(context: RunContext, tokenizer: ChatTokenizer | None = None) -> int:
    """Return the longest row that training takes: ``data.max_tokens``, at most the base's window [tokens]."""
    most = (tokenizer or context.tokenizer).max_tokens
    return min(context.recipe.data.max_tokens or most, most)


def check_before_training(context: RunContext, dataset: DatasetVersion, *, samples: int = 3) -> Preflight:
    """Tokenise every row that training and validation will see, and check it; a failed check is no error.

    Returns:
        What was found of the first training whose checks do not pass, else of the recipe's own.
    """
    *earlier, _ = trainings(context.recipe.train)
    for config in earlier:
        found = _check(context, dataset, training_splits(context, dataset, config), samples)
        if not found.passed:
            return found
    splits = training_splits(context, dataset)
    _tell_of_answers_alone(context, splits)
    return _check(context, dataset, splits, samples)


def _check(context: RunContext, dataset: DatasetVersion, splits: TrainingSplits, samples: int) -> Preflight:
    # Read afresh from what serving will load, not from the object that training holds.
    serving = load_tokenizer(context.base.path).on_day(dataset.day)
    return preflight(
        tokenizer_of(context, dataset),
        [*splits.train, *splits.validation],
        [*splits.rows.train, *splits.rows.validation],
        max_tokens=training_limit(context, serving),
        serving_template_sha256=serving.chat_template_sha256,
        served=ServedPrompt(serving, dataset.system_prompt),
        samples=samples,
    )


def _tell_of_answers_alone(context: RunContext, splits: TrainingSplits) -> None:
    """Say which rows take several sequences, because that costs their beginnings more than once."""
    rows = zip(
        (*splits.train, *splits.validation), (*splits.rows.train, *splits.rows.validation), strict=True
    )
    several = [where(example) for example, row in rows if example.rejected is None and len(row.sequences) > 1]
    if several:
        context.progress.event(
            f"the base's chat template rewrites earlier turns when a conversation goes on: each answer of "
            f"{counted(len(several), 'row')} is a sequence of its own ({listed(several, _SHOWN)})"
        )


@dataclass(frozen=True, slots=True)
class ServedPrompt:
    """What serving feeds the model for a conversation, by its own code from the request's JSON on."""

    tokenizer: ChatTokenizer
    system_prompt: str | None
    """The version's own, which requests need not bring."""

    def __call__(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """Return the ids; None where serving takes no such request."""
        body = conversation(self._without_own_system(messages))
        try:
            turns = ChatBody.model_validate({"model": "preflight", **body}).turns()
        except ValueError:
            return None
        try:
            return self.tokenizer.render_prompt(as_served(turns, self.system_prompt))
        except RefusedByTemplate:
            return ()

    def _without_own_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return a conversation as a client sends it that leaves the system prompt to the server."""
        if not self.system_prompt or not messages or messages[0].role != "system":
            return messages
        described = read_functions(messages[0].content)
        if described.text != self.system_prompt:
            return messages
        rest = messages[0].content[len(described.text) :].lstrip("\n")
        return [*([messages[0].with_(content=rest)] if rest else []), *messages[1:]]
