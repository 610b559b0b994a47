"""Supervised fine-tuning: the answers given are learnt token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from tunery.core.config import Settings
from tunery.core.example import Example
from tunery.model.render import LossOn, render
from tunery.model.tokenizer import ChatTokenizer
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod, TrainingRow

if TYPE_CHECKING:
    import torch

    from tunery.model.packing import Packed


def _is_off(value: float) -> bool:
    """Leave a later setting out of what is stored where it changes nothing: adapters keep their ids."""
    return value == 0


class CanaryConfig(Settings):
    """Made-up secrets that are planted in the train split, to see what a model learns by heart."""

    count: int = Field(default=10, ge=2, le=200)
    """Different ones [count]."""
    repeats: int = Field(default=1, ge=1, le=1000)
    """Rows of each: as often as a secret of one's own might stand in the data [rows]."""
    seed: int = Field(default=0, ge=0)
    """Which ones they are."""
    references: int = Field(default=200, ge=20, le=10_000)
    """Secrets planted nowhere that each is ranked among [count]."""
    within: float = Field(default=3.0, ge=0)
    """Exposure gained over the base that the gate wants ruled out, where no rule is about it [bits]."""


class SftConfig(TrainConfig):
    """How the adapter is trained."""

    method: Literal["sft"] = "sft"
    """Supervised fine-tuning: the answers given are learnt."""
    loss_on: LossOn = "completion"
    """Tokens trained on: every assistant turn, the last one only, or all tokens."""
    prompt_loss_weight: float = Field(default=0.0, ge=0.0, le=1.0)
    """Weight of the mean loss over the tokens of users' and tools' turns, added to the mean over completion
    tokens. About 0.1 keeps small sets of short answers from being learnt by heart; it costs the output layer
    for those tokens. Validation losses leave it out."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0, exclude_if=_is_off)
    """Share of each target's probability that is spread evenly over the vocabulary. Validation losses leave
    it out."""
    neftune_alpha: float = Field(default=0.0, ge=0.0, le=100.0, exclude_if=_is_off)
    """NEFTune: scale of uniform noise on the embeddings while training, divided by the square root of tokens
    times width; the paper tries 5, 10 and 15. What rows of a batch share gets one noise for all of them."""

    canaries: CanaryConfig | None = Field(default=None, exclude_if=lambda planted: planted is None)
    """Plant canaries in the train split alone, and have the gate look at their exposure; none by default."""

    @model_validator(mode="after")
    def _prompts_are_trained_once(self) -> SftConfig:
        if self.prompt_loss_weight and self.loss_on == "all":
            raise ValueError("loss_on: all trains prompt tokens already; leave prompt_loss_weight out")
        return self


@dataclass(frozen=True, slots=True)
class Supervised:
    """Mean cross-entropy of completion tokens and, where that has a weight, of prompt tokens."""

    config: SftConfig
    metrics: ClassVar[tuple[str, ...]] = ()

    @property
    def weights(self) -> tuple[float, ...]:
        """Of completion tokens and of prompt tokens; the latter only where they have one."""
        return (1.0, self.config.prompt_loss_weight) if self.config.prompt_loss_weight else (1.0,)

    def rows(
        self,
        tokenizer: ChatTokenizer,
        examples: Sequence[Example],
        *,
        split: Literal["train", "validation"],
    ) -> list[TrainingRow]:
        """Tokenise examples; validation rows carry no prompt loss, so that losses of recipes compare."""
        mark_prompt = self.config.prompt_loss_weight > 0 and split == "train"
        return [
            TrainingRow(render(tokenizer, e.messages, loss_on=self.config.loss_on, mark_prompt=mark_prompt))
            for e in examples
        ]

    def counts(self, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return the completion tokens and the prompt tokens among the targets of each example [count]."""
        return self._terms(batch, batch.row.new_ones(len(batch.row)))

    def losses(self, model: torch.nn.Module, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return the cross-entropies of completion and of prompt tokens, summed over each example [nats]."""
        import torch
        import torch.nn.functional as F

        from tunery.model.packing import target_logits

        trains = torch.is_grad_enabled()
        logits = target_logits(model, batch, neftune_alpha=self.config.neftune_alpha if trains else 0.0)
        smoothing = self.config.label_smoothing if trains else 0.0
        each = F.cross_entropy(logits.float(), batch.targets, reduction="none", label_smoothing=smoothing)
        return self._terms(batch, each)

    def _terms(self, batch: Packed, each: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(self.weights) == 1:  # there are no other targets
            return (batch.by_example(each),)
        return (
            batch.by_example(each, where=batch.completion),
            batch.by_example(each, where=~batch.completion),
        )


METHOD = TrainingMethod(
    name="sft",
    title="supervised fine-tuning",
    takes="answers",
    loss="completion tokens",
    openai_type="supervised",
    config=SftConfig,
    objective=Supervised,
)
