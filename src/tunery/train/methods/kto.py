"""Kahneman-Tversky optimisation: each answer becomes likelier or less likely than answers are on average.

Source:
    Ethayarajh et al. (2024), arXiv 2402.01306, equations 7 and 8.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod
from tunery.train.methods.preferences import Answers, PairLoss, PairObjective


class KtoConfig(TrainConfig):
    """How the adapter learns from desirable and undesirable answers."""

    method: Literal["kto"] = "kto"
    """Kahneman-Tversky optimisation: of a pair the preferred answer is desirable and the rejected one is not;
    each is compared with how far the model has moved, not with the other."""
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    """Peak learning rate."""
    epochs: float = Field(default=1.0, gt=0, le=1000)
    """Passes over the train split."""
    beta: float = Field(default=0.1, gt=0, le=100)
    """How closely the model keeps to the one that training starts from; larger keeps closer."""
    desirable_weight: float = Field(default=1.0, gt=0, le=100)
    """Weight of preferred answers."""
    undesirable_weight: float = Field(default=1.0, gt=0, le=100)
    """Weight of rejected answers."""


def _loss(config: KtoConfig, preferred: Answers, rejected: Answers) -> PairLoss:
    # The reference is raised by the step's divergence, so what is gained is counted from there.
    good, bad = config.beta * preferred.gained, config.beta * rejected.gained
    losses = config.desirable_weight * (-good).sigmoid() + config.undesirable_weight * bad.sigmoid()
    return PairLoss(losses / 2, good - bad)


def _objective(config: KtoConfig) -> PairObjective:
    return PairObjective(config, _loss, divergence=True)


METHOD = TrainingMethod(
    name="kto",
    title="Kahneman-Tversky optimisation",
    takes="preference pairs",
    loss="answers, two of each pair",
    openai_type="kto",
    config=KtoConfig,
    objective=_objective,
    needs_reference=True,
)
