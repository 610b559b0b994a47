"""Simple preference optimisation: mean log-probabilities of tokens with a target margin, without a reference.

Source:
    Meng et al. (2024), arXiv 2405.14734, equation 6.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod
from tunery.train.methods.preferences import Answers, PairLoss, PairObjective, smoothed_log_sigmoid


class SimpoConfig(TrainConfig):
    """How the adapter learns preferences without a reference."""

    method: Literal["simpo"] = "simpo"
    """Simple preference optimisation: the preferred answer is likelier by a margin, whatever its length."""
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    """Peak learning rate."""
    epochs: float = Field(default=1.0, gt=0, le=1000)
    """Passes over the train split."""
    beta: float = Field(default=2.0, gt=0, le=100)
    """Scale of the rewards."""
    gamma: float = Field(default=1.0, ge=0.0, le=100)
    """Margin by which the preferred answer's reward is to lead; about half of beta."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Share of the preferences that are taken to be the wrong way round."""
    sft_weight: float = Field(default=0.0, ge=0.0, le=100)
    """Weight of the preferred answers' mean cross-entropy beside the loss (CPO-SimPO)."""


def _loss(config: SimpoConfig, preferred: Answers, rejected: Answers) -> PairLoss:
    margin = config.beta * (preferred.mean - rejected.mean)
    return PairLoss(smoothed_log_sigmoid(margin - config.gamma, config.label_smoothing), margin)


def _objective(config: SimpoConfig) -> PairObjective:
    return PairObjective(config, _loss, sft_weight=config.sft_weight)


METHOD = TrainingMethod(
    name="simpo",
    title="simple preference optimisation",
    takes="preference pairs",
    loss="preference pairs",
    openai_type="simpo",
    config=SimpoConfig,
    objective=_objective,
)
