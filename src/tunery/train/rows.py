"""A dataset version's split as tokenised rows, ready to be packed."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.model.render import LossOn, Rendered, render
from tunery.model.tokenizer import ChatTokenizer


def render_split(
    tokenizer: ChatTokenizer,
    examples: Sequence[Example],
    *,
    loss_on: LossOn = "completion",
    mark_heard: bool = False,
) -> list[Rendered]:
    """Tokenise examples in order, as :func:`tunery.model.render.render` does.

    Raises:
        ConfigError: A row is a preference pair; supervised training would silently ignore the rejected
            answer.
    """
    pairs = sum(1 for e in examples if e.rejected is not None)
    if pairs:
        raise ConfigError(
            f"{pairs} of {len(examples)} rows are preference pairs, and supervised training does not use "
            "the rejected answers",
            hint="map only the preferred answers: data.sources[0].columns={input: …, output: …}",
        )
    return [
        render(tokenizer, example.messages, loss_on=loss_on, mark_heard=mark_heard) for example in examples
    ]
