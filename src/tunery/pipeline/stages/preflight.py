"""Stage 2: what exactly will be trained, and is the mask right? Costs nothing, stops the run."""

from __future__ import annotations

from tunery.core.dataset import DatasetVersion
from tunery.model.tokenizer import ChatTokenizer, load_tokenizer
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import split_of
from tunery.train.preflight import Preflight, preflight
from tunery.train.section import method_of


def training_limit(context: RunContext, tokenizer: ChatTokenizer | None = None) -> int:
    """Return the longest row that training takes: ``data.max_tokens``, at most the base's window [tokens]."""
    most = (tokenizer or context.tokenizer).max_tokens
    return min(context.recipe.data.max_tokens or most, most)


def check_before_training(context: RunContext, dataset: DatasetVersion, *, samples: int = 3) -> Preflight:
    """Tokenise every row that training and validation will see, and check it; a failed check is no error."""
    config = context.recipe.train
    train, validation = split_of(context, dataset, "train"), split_of(context, dataset, "validation")
    rows = method_of(config).rows(config, context.tokenizer, train, validation)
    # Read afresh from what serving will load, not from the object that training holds.
    serving = load_tokenizer(context.base.path)
    return preflight(
        context.tokenizer,
        [*train, *validation],
        [*rows.train, *rows.validation],
        max_tokens=training_limit(context, serving),
        serving_template_sha256=serving.chat_template_sha256,
        samples=samples,
    )
