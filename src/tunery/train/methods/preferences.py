"""What methods that learn from preference pairs share: their sequences, their log-probabilities, their terms.

A method is then its settings and one function from the log-probabilities of pairs to a loss for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from tunery.core.example import Example, Message
from tunery.model.render import Rendered, render
from tunery.model.tokenizer import ChatTokenizer
from tunery.train.methods.method import TrainingRow

if TYPE_CHECKING:
    import torch

    from tunery.model.packing import Packed


class Answers(NamedTuple):
    """One answer of each pair of a batch; every tensor has the shape ``(pairs,)``."""

    log_probs: torch.Tensor
    """Sum over the answer's tokens, its stop token's included [nats]."""
    tokens: torch.Tensor
    """Tokens that the sum is over [count]."""
    reference: torch.Tensor
    """The same sum by the model that training starts from [nats]; 0 where the method needs none."""

    @property
    def gained(self) -> torch.Tensor:
        """How much likelier the answer has become since training began [nats]."""
        return self.log_probs - self.reference

    @property
    def mean(self) -> torch.Tensor:
        """Mean log-probability of a token [nats]."""
        return self.log_probs / self.tokens


class PairLoss(NamedTuple):
    """What a method makes of pairs; both of the shape ``(pairs,)``."""

    loss: torch.Tensor
    margin: torch.Tensor
    """Reward of the preferred answer minus that of the rejected one, as the method defines rewards."""


@dataclass(frozen=True, slots=True)
class PairObjective:
    """Mean over pairs of a method's loss, and beside it the mean cross-entropy of the preferred answers."""

    config: Any
    """Settings of the method."""
    pair_loss: Callable[[Any, Answers, Answers], PairLoss]
    """From settings, preferred and rejected answers."""
    pair_weight: float = 1.0
    """Of the method's loss."""
    sft_weight: float = 0.0
    """Of the cross-entropy."""
    metrics: ClassVar[tuple[str, ...]] = ("preference_accuracy", "reward_margin")

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the pairs' loss, of the preferred answers' tokens where they have one, of what is measured."""
        return (self.pair_weight, *((self.sft_weight,) if self.sft_weight else ()), 0.0, 0.0)

    def rows(
        self,
        tokenizer: ChatTokenizer,
        examples: Sequence[Example],
        *,
        split: Literal["train", "validation"],
    ) -> list[TrainingRow]:
        """Tokenise pairs, the preferred answer first."""
        return [TrainingRow(tuple(answers_to(tokenizer, example))) for example in examples]

    def counts(self, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return of each pair 1, the tokens of its preferred answer, 1 and 1 [count]."""
        tokens = batch.row.bincount()
        pairs = tokens.new_ones(len(tokens) // 2)
        return (pairs, *((tokens[0::2],) if self.sft_weight else ()), pairs, pairs)

    def losses(self, model: torch.nn.Module, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return of each pair its terms [nats], then whether it is in order and its margin."""
        preferred, rejected = answers_of(model, batch)
        found = self.pair_loss(self.config, preferred, rejected)
        cross_entropy = (-preferred.log_probs,) if self.sft_weight else ()
        margin = found.margin.detach()
        return (found.loss, *cross_entropy, (margin > 0).to(margin.dtype), margin)


def answers_to(
    tokenizer: ChatTokenizer, example: Example, prompt: Sequence[Message] | None = None
) -> list[Rendered]:
    """Return the conversation with an example's answer, and with the rejected one of a pair behind that; the
    last turn is trained.

    Args:
        tokenizer: Of the base.
        example: Whose answers.
        prompt: What is answered in place of the example's own prompt.
    """
    answers = [example.messages[-1]]
    if example.rejected is not None:
        answers.append(answers[0].with_(content=example.rejected))
    before = example.prompt if prompt is None else prompt
    return [render(tokenizer, (*before, answer), loss_on="last_completion")[-1] for answer in answers]


def sequence_log_probs(model: torch.nn.Module, batch: Packed) -> torch.Tensor:
    """Return the summed log-probability of each sequence's targets [nats], shape ``(sequences,)``."""
    from tunery.model.packing import target_log_probs

    each = target_log_probs(model, batch)
    return each.new_zeros(int(batch.row.max()) + 1).index_add(0, batch.row, each)


def answers_of(model: torch.nn.Module, batch: Packed) -> tuple[Answers, Answers]:
    """Return the preferred and the rejected answers of a batch of pairs."""
    sums = sequence_log_probs(model, batch)
    tokens = sums.new_zeros(len(sums)).index_add(0, batch.row, sums.new_ones(len(batch.row)))
    reference = batch.reference.to(sums.dtype) if len(batch.reference) else sums.new_zeros(len(sums))
    return (
        Answers(sums[0::2], tokens[0::2], reference[0::2]),
        Answers(sums[1::2], tokens[1::2], reference[1::2]),
    )


def smoothed_log_sigmoid(margin: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return ``-log sigmoid(margin)`` where a share of the preferences is taken to be the wrong way round.

    Source:
        Mitchell (2023), A note on DPO with noisy preferences and relationship to IPO, equation 3.
    """
    import torch.nn.functional as F

    if not smoothing:
        return -F.logsigmoid(margin)
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)
