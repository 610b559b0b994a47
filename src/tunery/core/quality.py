"""Quality of rows: what a base model and a judge say of each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from tunery.core.config import Record

QualityId = Annotated[str, StringConstraints(pattern=r"^quality-[0-9a-f]{16}$")]
JUDGED_WRONG = 2
"""Up to this score a judge says that the answer is wrong or mostly so, or the row teaches nothing."""


class RowQuality(Record):
    """What a base model says of one row."""

    id: str
    """Example id."""
    tokens: int
    """Tokens of the answer, the stop token counted [count]."""
    loss: float
    """Mean loss of the answer after its prompt [nats per token]."""
    loss_alone: float
    """Mean loss of the answer after the same turns without their words [nats per token]."""
    perplexity: float
    """exp(loss): length-normalised perplexity of the answer given the prompt."""
    ifd: float
    """Instruction-following difficulty, loss / loss_alone: near 0 the prompt says it all, near 1 it does not
    help, above 1 it misleads."""
    judge: int | None = Field(default=None, ge=1, le=5)
    """A judge's score, 5 is best; None where there was no judge or the answer could not be read."""
