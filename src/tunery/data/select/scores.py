"""Scores of rows under a base model: computed, ranked by, written and read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tunery.core.engine import Score
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.quality import JUDGED_WRONG, RowQuality
from tunery.store.dataset_files import write_parquet

QUALITY = "quality.parquet"
QUALITY_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("loss", pa.float64(), nullable=False),
        pa.field("loss_alone", pa.float64(), nullable=False),
        pa.field("perplexity", pa.float64(), nullable=False),
        pa.field("ifd", pa.float64(), nullable=False),
        pa.field("judge", pa.int64()),
    ]
)
_LAST = -1e9


def row_quality(id: str, given: Score, alone: Score) -> RowQuality:
    """Return a row's quality from the likelihoods of its answer with and without the prompt.

    Args:
        id: Example id.
        given: The answer after its prompt.
        alone: The same tokens without the prompt's words.

    Raises:
        ValueError: The two were not scored on equally many tokens, or on none.

    Source:
        Li et al. (2023), From Quantity to Quality, arXiv 2308.12032, eq. 1 to 4.

    >>> row_quality("a", Score(-2.0, 4), Score(-4.0, 4)).ifd
    0.5
    """
    if given.tokens != alone.tokens or not given.tokens:
        raise ValueError(f"{id}: {given.tokens} tokens scored with the prompt, {alone.tokens} without it")
    # A loss of -0.0 and one of a rounding error under zero are both zero.
    loss, loss_alone = (max(0.0, -score.logprob / score.tokens) for score in (given, alone))
    # An answer that is certain even without its prompt cannot be made easier by it.
    ifd = loss / loss_alone if loss_alone > 0 else 1.0
    return RowQuality(
        id=id,
        tokens=given.tokens,
        loss=loss,
        loss_alone=loss_alone,
        perplexity=math.exp(min(loss, 700.0)),  # beyond, a double cannot hold it
        ifd=ifd if math.isfinite(ifd) else 1.0,
    )


def quality_score(row: RowQuality) -> float:
    """Return one number that ranks rows for choosing, higher is better.

    The harder an answer is even after its prompt, the more there is to learn from it; but where the prompt
    makes the answer *less* likely (IFD from 1 up), the two hardly belong together. So the score rises with
    IFD up to 1 and is negative from there. A row that a judge holds for mostly wrong comes behind all others.

    Source:
        Li et al. (2023), arXiv 2308.12032, section 3: rows by falling IFD, those from 1 up left out.
    """
    if row.judge is not None and row.judge <= JUDGED_WRONG:
        return _LAST + row.judge
    return row.ifd if row.ifd < 1 else 1 - row.ifd - 1e-9


def quality_scores(rows: Sequence[RowQuality], ids: Sequence[str]) -> list[float]:
    """Return the quality score of each example id, NaN where it has none: what ``choose`` takes as scores."""
    known = {row.id: quality_score(row) for row in rows}
    return [known.get(id, math.nan) for id in ids]


def write_quality(rows: Sequence[RowQuality], folder: Path) -> None:
    """Write ``quality.parquet``, one row per example, in order."""
    write_parquet([row.model_dump() for row in rows], folder / QUALITY, QUALITY_SCHEMA)


def read_quality(folder: Path) -> list[RowQuality]:
    """Read the qualities of a folder, in order.

    Raises:
        NotFoundError: The folder holds none.
        ConfigError: The table cannot be read.
    """
    path = folder / QUALITY
    if not path.is_file():
        raise NotFoundError(f"{folder} holds no quality scores")
    try:
        return [RowQuality(**row) for row in pq.read_table(path).to_pylist()]
    except (pa.ArrowException, OSError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
