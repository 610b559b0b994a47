"""Forwards as large as memory allows, chosen before a training begins, and the same by plan."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tunery.model.memory import (
    Training,
    bytes_a_supervised_token,
    bytes_a_token,
    frozen_bytes,
    state_bytes,
)
from tunery.model.shape import BaseShape
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRow

_SHARE = 0.85
"""Share of the free memory that a training plans with."""
SMOKE_ROWS = 100
"""Rows of a smoke run at most, or one batch [rows]."""
SMOKE_PASSES = 5
"""Times that it goes through them [count]."""
SMOKE_MOST_S = 60.0
"""Time after which it is cut short [s]."""
_SMOKE_SHARE = 0.1
"""Share of the real training's steps that it may take; where that is too few, it is left out."""
_FEWEST = 256
"""Forwards are not planned smaller than this; where less fits, training finds out [tokens]."""


def smoke_rows(rows: Sequence[TrainingRow], config: TrainConfig) -> list[TrainingRow]:
    """Return the rows that a smoke run trains on, empty where the real training is not worth one."""
    batches = int(_SMOKE_SHARE * config.total_steps(len(rows)) / SMOKE_PASSES)
    most = min(len(rows), batches * config.batch_size, max(SMOKE_ROWS, config.batch_size))
    if not config.smoke or most < 1:
        return []
    longest = max(range(len(rows)), key=lambda i: rows[i].tokens)
    drawn = random.Random(config.seed).sample(range(len(rows)), most)  # noqa: S311 - no secret
    return [rows[i] for i in dict.fromkeys([longest, *drawn])][:most]


def training_of(config: TrainConfig, shape: BaseShape, device_type: str) -> Training:
    """Return what settings train of a base, and how it is held on a device (``cpu``, ``cuda``)."""
    if config.adapter == "none":
        trained = shape.parameters
    else:
        dora = config.adapter == "dora"
        trained = shape.adapter(config.rank, config.target_modules, magnitudes=dora)
    return Training(
        kind=config.adapter,
        rank=config.rank,
        trained=trained,
        weight_bytes=2 if config.base_in_half(device_type) or config.mixed_precision(device_type) else 4,
        quantized=config.quantization is not None,
        checkpointing=config.gradient_checkpointing is True,
    )


def fitted(
    config: TrainConfig,
    shape: BaseShape,
    rows: Sequence[TrainingRow],
    *,
    free: int,
    device_type: str,
    loaded: bool,
) -> TrainConfig:
    """Return the settings with forwards, and checkpointing where it is left open, as free memory allows.

    Args:
        config: What the recipe says; forwards never become larger than that.
        shape: Of the base.
        rows: All that are trained on.
        free: Memory of the device; 0 where it is not known, and nothing is changed then [bytes].
        device_type: ``cpu`` or ``cuda``.
        loaded: Whether the base's weights are in memory already.
    """

    def tokens_in(config: TrainConfig) -> int:
        """Return how many tokens a forward may compute by these settings [count]."""
        training = training_of(config, shape, device_type)
        left = _SHARE * free - state_bytes(training) - (0 if loaded else frozen_bytes(shape, training))
        supervised = sum(row.loss_tokens for row in rows) / max(sum(row.tokens for row in rows), 1)
        each = bytes_a_token(shape, training) + supervised * bytes_a_supervised_token(shape)
        return int(max(left, 0) / each)

    open_ = config.gradient_checkpointing == "auto"
    plain = config.model_copy(update={"gradient_checkpointing": False}) if open_ else config
    if not free or not rows:
        return plain
    longest = max(row.tokens for row in rows)
    most = tokens_in(plain)
    if open_ and most < min(longest, config.micro_batch_tokens):
        plain = config.model_copy(update={"gradient_checkpointing": True})
        most = tokens_in(plain)
    bound = min(config.micro_batch_tokens, max(most, _FEWEST))
    return plain.model_copy(update={"micro_batch_tokens": bound})
