"""Kahneman-Tversky optimisation: each answer becomes likelier or less likely than answers are on average.

Source:
    Ethayarajh et al. (2024), arXiv 2402.01306, equations 7 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tunery.core.example import Example
from tunery.model.tokenizer import ChatTokenizer
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod, TrainingRow
from tunery.train.methods.preferences import answers_to, sequence_log_probs

if TYPE_CHECKING:
    import torch

    from tunery.model.packing import Packed


class KtoConfig(TrainConfig):
    """How the adapter learns from desirable and undesirable answers."""

    method: Literal["kto"] = "kto"
    """Kahneman-Tversky optimisation: answers are desirable or undesirable, and each is compared with how far
    the model has moved, not with another answer. Of a pair the preferred answer is desirable, the rejected
    one is not."""
    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    """Peak learning rate."""
    epochs: float = Field(default=1.0, gt=0, le=1000)
    """Passes over the train split."""
    beta: float = Field(default=0.1, gt=0, le=100)
    """How closely the model keeps to the one that training starts from; larger keeps closer."""
    desirable_weight: float = Field(default=1.0, gt=0, le=100)
    """Weight of desirable answers."""
    undesirable_weight: float = Field(default=1.0, gt=0, le=100)
    """Weight of undesirable answers; where there are far fewer of one kind, weigh that kind more."""


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """Mean over examples of the loss of their answers, of a pair the mean of both."""

    config: KtoConfig
    metrics: ClassVar[tuple[str, ...]] = ("preference_accuracy", "reward_margin")

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the loss, and of what is measured."""
        return (1.0, 0.0, 0.0)

    def rows(
        self,
        tokenizer: ChatTokenizer,
        examples: Sequence[Example],
        *,
        split: Literal["train", "validation"],
    ) -> list[TrainingRow]:
        """Tokenise answers, the preferred one of a pair first; beside each prompt the answers of the example
        before, which have nothing to do with it."""
        before = [*examples[-1:], *examples[:-1]]
        return [
            TrainingRow(
                tuple(answers_to(tokenizer, example)),
                desirable=_desirable(example),
                beside=tuple(answers_to(tokenizer, other, example.prompt)),
            )
            for example, other in zip(examples, before, strict=True)
        ]

    def counts(self, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return of each example 1, three times [count]."""
        each = batch.example.new_ones(batch.examples)
        return (each, each, each)

    def of_step(
        self,
        model: torch.nn.Module,
        batches: Sequence[Packed],
        beside: Sequence[Packed],
        total: Callable[[Sequence[float]], Sequence[float]] = list,
    ) -> list[Packed]:
        """Return a step's batches, their references raised by the divergence from the start [nats].

        It is the mean, at least 0, of what the other rows' answers gained behind the prompts, over the whole
        step, so that accumulated micro-batches equal one big batch.
        """
        each = [float((sequence_log_probs(model, b).double() - b.reference).sum()) for b in beside]
        gained, rows = total([sum(each), sum(len(batch.reference) for batch in beside)])
        raised = max(0.0, gained / max(rows, 1))
        return [replace(batch, reference=batch.reference + raised) for batch in batches]

    def losses(self, model: torch.nn.Module, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return of each example its loss, whether its reward is on the right side, and by how much.

        The reward of a pair is that of its preferred answer less that of the other; of a single answer what
        it gained more than others did, or less where it is undesirable.
        """
        log_probs = sequence_log_probs(model, batch)
        reference = batch.reference.to(log_probs.dtype) if len(batch.reference) else log_probs.detach()
        # The reference is raised by the step's divergence, so what is gained is counted from there.
        reward = self.config.beta * (log_probs - reference)
        good = batch.desirable
        signed = reward.where(good, -reward)
        of_kind = (self.config.undesirable_weight, self.config.desirable_weight)
        weight = reward.new_tensor(of_kind)[good.long()]
        answers = _by_example(batch, reward.new_ones(len(reward)))
        loss = _by_example(batch, weight * (-signed).sigmoid()) / answers
        margin = _by_example(batch, signed).detach()
        return (loss, (margin > 0).to(margin.dtype), margin)


def _desirable(example: Example) -> tuple[bool, ...]:
    """Return of each answer of an example whether it is to become likelier."""
    return (example.desirable is not False,) if example.rejected is None else (True, False)


def _by_example(batch: Packed, values: torch.Tensor) -> torch.Tensor:
    """Return values of answers summed for each example, shape ``(examples,)``."""
    return values.new_zeros(batch.examples).index_add(0, batch.example, values)


METHOD = TrainingMethod(
    name="kto",
    title="Kahneman-Tversky optimisation",
    takes="judged answers",
    loss="judged answers, two of each pair",
    openai_type="kto",
    config=KtoConfig,
    objective=JudgedAnswers,
    needs_reference=True,
)
