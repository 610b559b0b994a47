"""Odds ratio preference optimisation: answers and preferences learnt in one training, without a reference.

Source:
    Hong et al. (2024), arXiv 2403.07691, equations 4, 6 and 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod
from tunery.train.methods.preferences import Answers, PairLoss, PairObjective, smoothed_log_sigmoid

if TYPE_CHECKING:
    import torch


class OrpoConfig(TrainConfig):
    """How the adapter learns answers and preferences together."""

    method: Literal["orpo"] = "orpo"
    """Odds ratio preference optimisation: the preferred answers are learnt, and rejected ones that are as
    likely cost a penalty."""
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    """Peak learning rate."""
    beta: float = Field(default=0.1, gt=0, le=100)
    """Weight of the odds ratio beside the preferred answers' cross-entropy (the paper's lambda)."""


def _log_odds(answers: Answers) -> torch.Tensor:
    import torch

    mean = answers.mean.clamp(max=-1e-6)  # an answer that is certain has odds without end
    return mean - torch.log(-torch.expm1(mean))


def _loss(config: OrpoConfig, preferred: Answers, rejected: Answers) -> PairLoss:
    odds = _log_odds(preferred) - _log_odds(rejected)
    return PairLoss(smoothed_log_sigmoid(odds, 0.0), config.beta * (preferred.mean - rejected.mean))


def _objective(config: OrpoConfig) -> PairObjective:
    return PairObjective(config, _loss, pair_weight=config.beta, sft_weight=1.0)


METHOD = TrainingMethod(
    name="orpo",
    title="odds ratio preference optimisation",
    takes="preference pairs",
    loss="preferred answers' tokens and preference pairs",
    openai_type="orpo",
    config=OrpoConfig,
    objective=_objective,
)
