"""Selection: training rows that the recipe does not choose go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.example import Drop
from tunery.core.quality import RowQuality
from tunery.core.splits import SPLITS
from tunery.data.decisions import Curated
from tunery.data.select.scores import quality_scores
from tunery.text.embeddings import Encoder


class SelectionInputs(NamedTuple):
    """What rows are selected by, where the recipe selects some."""

    scores: Sequence[RowQuality] = ()
    """Of rows under a base model."""
    encoder: Callable[[], Encoder] | None = None
    """Loads what gives sentence embeddings; called where rows are compared by meaning."""


def select_rows(curated: Curated, given: SelectionInputs) -> None:
    """Drop the training rows that the recipe does not choose, where it chooses some.

    Raises:
        ConfigError: Rows are to be compared by meaning, and there is no sentence encoder.
    """
    settings = curated.config.select
    if settings is None:
        return
    from tunery.data.select.select import choose

    encode = None
    if settings.compare == "meaning":
        if given.encoder is None:
            raise ConfigError("data.select.compare is 'meaning', and no sentence encoder was given")
        encode = given.encoder()
    train = int((curated.splits == SPLITS.index("train")).sum())
    if settings.rows > train:
        curated.warnings.append(
            f"{settings.rows:,} rows are to be selected and {train:,} are there to train on: all are taken"
        )
    columns = curated.columns()
    found = quality_scores(given.scores, columns.ids) if given.scores else None
    chosen = set(choose(columns, settings.rows, settings.by, scores=found, seed=settings.seed, encode=encode))
    drop = Drop("not_selected", f"is not among the {settings.rows:,} training rows chosen by {settings.by}")
    gone = (i for i, split in enumerate(columns.splits) if split == "train" and i not in chosen)
    curated.drop({int(curated.kept[i]): drop for i in gone})
