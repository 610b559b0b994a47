"""Learning rate, epochs, batch and rank for a base and rows, where settings leave them to ``auto``.

Each rule is one formula with bounds; what it gives is a setting like any other, so that a recipe which names
the same numbers trains the same adapter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tunery.core.figures import counted
from tunery.model.shape import BaseShape
from tunery.train.config import AUTO_BOUNDS, TrainConfig
from tunery.train.methods.method import TrainingRow
from tunery.train.section import method_of

_WIDTH = 2000
"""Width of the residual stream at which a LoRA learns at ``_RATE`` [count]."""
_RATE = 5e-4
_FALL = 0.775
"""Power by which the rate falls with the width."""
_ALPHA = 32.0
"""Scale numerator that the rate is for."""
_BATCH = 16
"""Examples a step below which the rate falls with their root [count]."""
_FULL_SHARE = 0.1
"""Full fine-tuning's learning rate over LoRA's."""
_PREFERENCE_SHARE = (0.1, 0.4)
"""Least and most of the supervised rate that preferences are learnt at."""
_FULL_PREFERENCE_STEPS = 16
"""Steps in which preferences could be learnt at the whole supervised rate [count]."""
_PASSES = 3.0
"""Passes over ``_TOKENS`` trained tokens; their number falls with the fourth root of the tokens."""
_TOKENS = 10_000
_FEW_ROWS = 128
"""Rows below which batches of 4 leave enough steps, and batches of 8 do not [rows]."""
_PREFERENCE_STEPS = 40
"""Steps below which preferences are passed over again [count]."""
_BITS = 2.0
"""That a trained weight can hold, where a trained token brings one."""


class Chosen(NamedTuple):
    """Settings without anything left open."""

    config: TrainConfig
    values: dict[str, float]
    """What was chosen, by setting."""
    sentence: str
    """The same in words."""


def choose(config: TrainConfig, rows: Sequence[TrainingRow], shape: BaseShape) -> Chosen:
    """Return settings in which a rule has chosen whatever is left to ``auto``.

    - ``learning_rate``: 0.0005 times (2000 / width) ** 0.775 for LoRA, for alpha 32 and any rank; a tenth
      with full fine-tuning; times the root of batch / 16 for smaller batches; for preferences 16 over the
      steps of it instead, between 0.1 and 0.4.
    - ``epochs``: 3 times the fourth root of 10,000 over the trained tokens of a pass, from 1 to 8; of
      preferences as many as give 40 steps, from 1 to 3.
    - ``batch_size``: a third of the root of the rows, down to a power of two, from 8 to 64; from 4 where
      there are fewer than 128 rows.
    - ``rank``: the least power of two whose weights hold two bits each for one bit a trained token, from 16
      to 256.

    Source:
        Schulman et al. (2025), LoRA Without Regret, Thinking Machines Lab: the rate by width, ten times that
        of full fine-tuning, whatever the rank; the bits of weights and tokens. Malladi et al. (2022), arXiv
        2205.10287: Adam's rate goes with the root of the batch. Zhang et al. (2024), arXiv
        2410.21676: the batch up to which steps are not wasted grows with the root of the data. Epochs and the
        share for preferences were measured: ``benchmarks/auto_defaults.py``.

    Args:
        config: Of one training; what it starts from is left as it is.
        rows: Of the train split, as the method has them.
        shape: Of the base.
    """
    found: dict[str, Any] = {}
    tokens = sum(row.loss_tokens for row in rows)
    if "rank" in config.auto:
        found["rank"] = _rank(config, tokens, shape)
    if "batch_size" in config.auto:
        found["batch_size"] = _batch_size(len(rows), config.micro_batch_size)
    now = config.model_copy(update=found)
    if "epochs" in config.auto:
        found["epochs"] = float(_epochs(now, len(rows), tokens))
        now = config.model_copy(update=found)
    if "learning_rate" in config.auto:
        found["learning_rate"] = _learning_rate(now, len(rows), shape)
    in_order = {name: found[name] for name in sorted(found)}
    said = ", ".join(f"{name} {value:g}" for name, value in in_order.items())
    sentence = (
        f"auto chose {said} (of {counted(len(rows), 'row')} with {counted(tokens, 'trained token')}, "
        f"for a base {shape.hidden:,} wide)"
    )
    return Chosen(config.model_copy(update={**found, "auto": ()}), in_order, sentence)


def _learning_rate(config: TrainConfig, rows: int, shape: BaseShape) -> float:
    rate = _RATE * (_WIDTH / shape.hidden) ** _FALL
    if config.adapter == "none":
        rate *= _FULL_SHARE
    else:
        rate *= _ALPHA / config.alpha
        if config.adapter == "rslora":  # its update is the root of the rank larger
            rate /= math.sqrt(config.rank)
    if _learns_preferences(config):
        least, most = _PREFERENCE_SHARE
        rate *= min(most, max(least, _FULL_PREFERENCE_STEPS / config.total_steps(rows)))
    else:
        rate *= math.sqrt(min(1.0, config.batch_size / _BATCH))
    return min(1.0, float(f"{rate:.2g}"))


def _epochs(config: TrainConfig, rows: int, tokens: int) -> int:
    least, most = AUTO_BOUNDS["epochs"]
    if _learns_preferences(config):
        found = _PREFERENCE_STEPS * config.batch_size / max(rows, 1)
        most = min(most, 3)
    else:
        found = _PASSES * (_TOKENS / max(tokens, 1)) ** 0.25
    return min(most, max(least, round(found)))


def _batch_size(rows: int, micro: int | None) -> int:
    least, most = AUTO_BOUNDS["batch_size"]
    if rows >= _FEW_ROWS:
        least *= 2
    found = min(most, max(least, 1 << math.floor(math.log2(max(math.sqrt(rows) / 3, 1)))))
    return found if micro is None else micro * math.ceil(found / micro)


def _rank(config: TrainConfig, tokens: int, shape: BaseShape) -> int:
    least, most = AUTO_BOUNDS["rank"]
    each = shape.adapter(1, config.target_modules)
    wanted = tokens / (_BITS * max(each, 1))
    return min(most, max(least, 1 << math.ceil(math.log2(max(wanted, 1)))))


def _learns_preferences(config: TrainConfig) -> bool:
    return method_of(config).learns_preferences
