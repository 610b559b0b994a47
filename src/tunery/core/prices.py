"""What tokens and hours cost: one definition for endpoints that are paid, and for models that are served."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from tunery.core.config import Settings


class TokenPrices(Settings):
    """Prices by the token, as an endpoint's list of prices states them."""

    price_prompt: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens [US dollars]."""
    price_completion: float | None = Field(default=None, ge=0)
    """Price of a million answer tokens [US dollars]."""

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost; nothing where no price is known [US dollars]."""
        prompt, completion = self.price_prompt or 0.0, self.price_completion or 0.0
        return (prompt_tokens * prompt + completion_tokens * completion) / 1_000_000


class Prices(TokenPrices):
    """What a served model costs: by its tokens, by the time of the hardware that answers, or both."""

    price_per_hour: float | None = Field(default=None, ge=0)
    """Price of an hour of the hardware that answers [US dollars]. Calls that are answered at the same time
    share it evenly, so that the calls of an hour never cost more than the hour."""


def usd_of_time(seconds: float, price_per_hour: float | None) -> float:
    """Return what so much time of own hardware costs; nothing where no price is known [US dollars].

    >>> usd_of_time(1800, 4.0)
    2.0
    """
    return seconds / 3600 * (price_per_hour or 0.0)


class Used(NamedTuple):
    """What one call used, or may use at most."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    """What that costs [US dollars]."""

    @property
    def tokens(self) -> int:
        """Prompt and completion together [count]."""
        return self.prompt_tokens + self.completion_tokens


NOTHING = Used()
