"""What a file of this package declares, and what training, preflight and plan ask of it.

Whatever the method, training leaves a LoRA adapter on the base, so serving asks nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.model.render import Rendered
from tunery.model.token_tree import forwards
from tunery.model.tokenizer import ChatTokenizer
from tunery.train.config import TrainConfig

if TYPE_CHECKING:
    import torch

    from tunery.model.packing import Packed


_VALIDATION_ROWS = 16


class TrainingRow(NamedTuple):
    """What one example becomes: the sequences that the model reads for it."""

    sequences: tuple[Rendered, ...]
    """One where answers are learnt, or one for each answer where the template writes earlier turns otherwise
    later on; the preferred one, then the rejected one, where a pair is."""
    id: str = ""
    """Of the example."""
    reference: tuple[float, ...] = ()
    """Log-probability of each sequence's trained tokens by the model that training starts from [nats]; empty
    where the method needs none."""
    desirable: tuple[bool, ...] = ()
    """Whether each sequence's answer is to become likelier; empty where the method does not ask."""
    beside: tuple[Rendered, ...] = ()
    """Sequences that are only measured, once a step without a gradient."""
    beside_reference: tuple[float, ...] = ()
    """Of those, like ``reference`` [nats]."""

    @property
    def tokens(self) -> int:
        """Tokens of all sequences [count]."""
        return sum(len(s.ids) for s in self.sequences)

    @property
    def loss_tokens(self) -> int:
        """Tokens in the loss [count]."""
        return sum(sum(s.mask) + sum(s.prompt_mask) for s in self.sequences)


class TrainingRows(NamedTuple):
    """A dataset version's splits as training gets them; preflight and plan look at these very rows."""

    train: Sequence[TrainingRow]
    """At least one."""
    validation: Sequence[TrainingRow]
    """For the validation loss; may be empty, then the last step counts as the best."""


def forwards_of(
    rows: Sequence[TrainingRow], config: TrainConfig, *, most_rows: int | None = None
) -> list[list[int]]:
    """Return the indices of the rows of each forward, those that begin alike together.

    Args:
        rows: Of an optimizer step, or of a split that is only measured.
        config: Bounds a forward.
        most_rows: Rows of a forward; ``micro_batch_size`` when None.
    """
    ids = [[sequence.ids for sequence in row.sequences] for row in rows]
    return forwards(
        ids, most_tokens=config.micro_batch_tokens, most_rows=most_rows or config.micro_batch_size
    )


def validation_rows(config: TrainConfig) -> int:
    """Return the validation rows of a forward at most [rows].

    There is no gradient to hold, but there are logits: never more rows than training computes at once, so
    that validation takes no more memory.
    """
    return min(_VALIDATION_ROWS, config.micro_batch_size or config.batch_size)


class Objective(Protocol):
    """A method with its settings: turns examples into rows and rows into a loss."""

    @property
    def config(self) -> TrainConfig:
        """Its settings."""
        ...

    @property
    def weights(self) -> tuple[float, ...]:
        """Factor of each term of the loss, shape ``(terms,)``."""
        ...

    def rows(
        self,
        tokenizer: ChatTokenizer,
        examples: Sequence[Example],
        *,
        split: Literal["train", "validation"],
    ) -> list[TrainingRow]:
        """Tokenise examples in order, each to one row with its loss mask."""
        ...

    def counts(self, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return what each term is a mean over, such as completion tokens, of each example, shape ``(terms,
        examples)`` [count].
        """
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the last terms, which are only measured: each has the weight 0."""
        ...

    def losses(self, model: torch.nn.Module, batch: Packed) -> tuple[torch.Tensor, ...]:
        """Return each term summed over each example, shape ``(terms, examples)`` [nats].

        Sums, not means: they are divided by the counts of the whole step, so that accumulated micro-batches
        equal one big batch whatever the method. Of each example, so that it can be told which one a loss
        comes from.

        Args:
            model: The base with the adapter; ``model.disable_adapter()`` gives the base alone.
            batch: Rows' sequences in order, on the model's device.
        """
        ...


@runtime_checkable
class WholeStep(Protocol):
    """An objective whose loss depends on something of a whole step, which micro-batches must agree on."""

    def of_step(
        self,
        model: torch.nn.Module,
        batches: Sequence[Packed],
        beside: Sequence[Packed],
        total: Callable[[Sequence[float]], Sequence[float]] = list,
    ) -> list[Packed]:
        """Return a step's micro-batches with what was measured of all; ``beside`` has no gradient.

        ``total`` sums numbers over all processes that compute the step; each of them calls it alike.
        """
        ...


@dataclass(frozen=True)
class TrainingMethod:
    """A training method as its file declares it, in a constant named ``METHOD``."""

    name: str
    """What ``train.method`` calls it."""
    title: str
    """What a report calls it."""
    takes: Literal["answers", "preference pairs", "judged answers"]
    """Shape of its examples; pairs are judged answers, two of each."""
    loss: str
    """What its loss is the mean over, such as ``completion tokens``."""
    openai_type: str
    """What ``method.type`` of a fine-tuning job calls it."""
    config: type[TrainConfig]
    """Its settings; ``method`` is a literal with its name."""
    objective: Callable[[Any], Objective]
    """Builds it from its settings."""
    needs_reference: bool = False
    """Whether its loss compares with the model that training starts from, whose log-probabilities are then
    computed once, before the first step."""

    @property
    def defaults(self) -> TrainConfig:
        """Its settings where a recipe says nothing else."""
        return self.config.model_validate({})

    @property
    def learns_preferences(self) -> bool:
        """Whether it learns which answers are better, not answers themselves."""
        return self.takes != "answers"

    @property
    def shuffles_prompts(self) -> bool:
        """Whether an epoch keeps rows of one prompt beside each other, where several are usual."""
        return self.learns_preferences

    @property
    def own_settings(self) -> frozenset[str]:
        """Names of the settings that it adds to those of every method."""
        return frozenset(self.config.model_fields.keys() - TrainConfig.model_fields.keys())

    @property
    def summary(self) -> str:
        """What it is and what its loss means, for a report."""
        return f"{self.title}; losses are means over {self.loss}"

    def rows(
        self,
        config: TrainConfig,
        tokenizer: ChatTokenizer,
        train: Sequence[Example],
        validation: Sequence[Example],
    ) -> TrainingRows:
        """Tokenise both splits by settings of this method.

        Raises:
            ConfigError: Examples are not of the shape that the method takes, or cannot be rendered.
        """
        self._check([*train, *validation])
        objective = self.objective(config)
        return TrainingRows(
            _named(objective.rows(tokenizer, train, split="train"), train),
            _named(objective.rows(tokenizer, validation, split="validation"), validation),
        )

    def _check(self, examples: Sequence[Example]) -> None:
        """Refuse examples of the other shape; say how many, and what to type instead."""
        pairs = sum(example.rejected is not None for example in examples)
        unpaired = sum(example.desirable is not None for example in examples)
        if unpaired and self.takes == "preference pairs":
            raise ConfigError(
                f"{unpaired} of {len(examples)} rows say of one answer whether it is desirable, and "
                f"{self.title} learns from pairs of answers",
                hint="train.method=kto learns from single answers",
            )
        if self.takes == "judged answers" and (left := len(examples) - pairs - unpaired):
            raise ConfigError(
                f"{left} of {len(examples)} rows neither say whether their answer is desirable nor have a "
                f"rejected one, and {self.title} learns from either",
                hint="map a column of true and false: data.sources[0].columns={…, desirable: …}",
            )
        if self.takes == "answers" and pairs:
            raise ConfigError(
                f"{pairs} of {len(examples)} rows are preference pairs, and {self.title} does not use the "
                "rejected answers",
                hint="map only the preferred answers: data.sources[0].columns={input: …, output: …}",
            )
        if self.takes == "preference pairs" and pairs < len(examples):
            raise ConfigError(
                f"{len(examples) - pairs} of {len(examples)} rows have no rejected answer, and {self.title} "
                "learns from pairs",
                hint="map both answers: data.sources[0].columns={input: …, output: …, rejected: …}",
            )


def _named(rows: Sequence[TrainingRow], examples: Sequence[Example]) -> list[TrainingRow]:
    return [row._replace(id=example.id) for row, example in zip(rows, examples, strict=True)]
