"""Direct preference optimisation: the preferred answer gains on the rejected one, measured from the start.

Source:
    Rafailov et al. (2023), arXiv 2305.18290, equation 7. IPO: Azar et al. (2023), arXiv 2310.12036, equation
    17, over mean log-probabilities of tokens. Hinge: Zhao et al. (2023), arXiv 2305.10425, of DPO's margin.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod
from tunery.train.methods.preferences import Answers, PairLoss, PairObjective, smoothed_log_sigmoid


class DpoConfig(TrainConfig):
    """How the adapter learns preferences."""

    method: Literal["dpo"] = "dpo"
    """Direct preference optimisation: of two answers to a prompt, the preferred one becomes likelier."""
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    """Peak learning rate; preferences bear about a tenth of what answers do."""
    epochs: float = Field(default=1.0, gt=0, le=1000)
    """Passes over the train split."""
    beta: float = Field(default=0.1, gt=0, le=100)
    """How closely the model keeps to the one that training starts from; larger keeps closer."""
    loss_type: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
    """Shape of the loss over the margin: DPO's own, a hinge, or IPO's square, which does not grow without end
    where every rater agrees."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Share of the preferences that are taken to be the wrong way round (conservative DPO); sigmoid only."""
    sft_weight: float = Field(default=0.0, ge=0.0, le=100)
    """Weight of the preferred answers' mean cross-entropy beside the loss; keeps them from becoming unlikely
    together with the rejected ones."""


def _loss(config: DpoConfig, preferred: Answers, rejected: Answers) -> PairLoss:
    margin = config.beta * (preferred.gained - rejected.gained)
    if config.loss_type == "hinge":
        return PairLoss((1 - margin).relu(), margin)
    if config.loss_type == "ipo":
        per_token = preferred.gained / preferred.tokens - rejected.gained / rejected.tokens
        return PairLoss((per_token - 1 / (2 * config.beta)) ** 2, margin)
    return PairLoss(smoothed_log_sigmoid(margin, config.label_smoothing), margin)


def _objective(config: DpoConfig) -> PairObjective:
    return PairObjective(config, _loss, sft_weight=config.sft_weight)


METHOD = TrainingMethod(
    name="dpo",
    title="direct preference optimisation",
    takes="preference pairs",
    loss="preference pairs",
    openai_type="dpo",
    config=DpoConfig,
    objective=_objective,
    needs_reference=True,
)
