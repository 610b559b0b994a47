"""Stage 1: raw files to a dataset version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example
from tunery.core.splits import SplitName
from tunery.pipeline.context import RunContext

if TYPE_CHECKING:
    from tunery.model.encoder import SentenceEncoder
    from tunery.model.tokenizer import ChatTokenizer


def make_dataset(context: RunContext) -> DatasetVersion:
    """Build the recipe's dataset version, or find the one that the same inputs made before.

    Raises:
        ConfigError: A file or a row is wrong.
        ResourceError: The disk is full.
    """
    from tunery.data.build import build_dataset

    return build_dataset(
        context.recipe.data,
        context.workspace,
        name=context.recipe.name,
        base_dir=context.base_dir,
        tokenizer=context.tokenizer,
        max_tokens=context.recipe.data.max_tokens,
        encoder=sentence_encoder,
        progress=context.progress,
    )


def dataset_to_use(context: RunContext) -> DatasetVersion:
    """Build or find the recipe's dataset version, and tell what a person should know of it.

    Raises:
        ConfigError: A file or a row is wrong.
        ResourceError: The disk is full.
    """
    dataset = make_dataset(context)
    for warning in dataset.warnings:
        context.progress.event(warning, level="warn")
    return dataset


def tokenizer_of(context: RunContext, dataset: DatasetVersion) -> ChatTokenizer:
    """Return the base's tokenizer as it writes for a dataset version, on whatever day it is asked."""
    return context.tokenizer.on_day(dataset.day)


def sentence_encoder() -> SentenceEncoder:
    """Load the sentence encoder that is installed.

    Raises:
        NotFoundError: None is.
    """
    from tunery.model.encoder import load_encoder

    return load_encoder()


def answers_to_reach(examples: Sequence[Example]) -> list[Example]:
    """Return the examples without those of unpaired preferences whose answer is undesirable."""
    return [example for example in examples if example.desirable is not False]


def split_of(context: RunContext, dataset: DatasetVersion, split: SplitName) -> list[Example]:
    """Return one split's examples, in order."""
    from tunery.store.dataset_files import read_examples

    return read_examples(context.workspace.artifacts.path("datasets", dataset.id), split)
