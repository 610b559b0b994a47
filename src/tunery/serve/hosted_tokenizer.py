"""What stands for the tokenizer of a model that is forwarded to: it counts, roughly, and reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Self

from tunery.core.errors import ConfigError

_BYTES_A_TOKEN = 4
"""What a token of English takes by rule of thumb; other scripts take fewer bytes a token, and more tokens."""
_TOKENS_A_TURN = 4
"""What templates write around a turn, by rule of thumb [tokens]."""


class HostedTokenizer:
    """Ids that mean nothing, as many as a text will likely have; see :class:`tunery.core.engine.Tokenizer`.

    Counts are estimates until the endpoint says what it counted: limits reserve by these and book those.

    Args:
        max_tokens: Longest conversation that the model takes [tokens].
    """

    stop_ids: frozenset[int] = frozenset()
    writes_day = False
    vocab_size = 0

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens

    def render_prompt(self, messages: Sequence[Any], *, most: int | None = None) -> tuple[int, ...]:
        """Return ids that mean nothing, as many as the conversation will likely have.

        Raises:
            ConfigError: That is more than ``most``.
        """
        return self._counted(sum(_tokens(m.content) + _TOKENS_A_TURN for m in messages), most)

    def encode(self, text: str, *, most: int | None = None) -> tuple[int, ...]:
        """Return ids that mean nothing; raises as :meth:`render_prompt`."""
        return self._counted(_tokens(text), most)

    def refusal(self, messages: Sequence[Any]) -> str | None:
        """Return None: only the endpoint knows."""
        return None

    def refused_turn(self, messages: Sequence[Any]) -> int | None:
        """Return None: only the endpoint knows."""
        return None

    def on_day(self, day: date | None) -> Self:
        """Return itself."""
        return self

    def framed(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return the ids."""
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Refuse.

        Raises:
            ConfigError: Always: its ids are not known here.
        """
        raise _unknown()

    def decode_all(self, ids: Sequence[int]) -> str:
        """Refuse, as :meth:`decode`."""
        raise _unknown()

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Refuse, as :meth:`decode`."""
        raise _unknown()

    def _counted(self, count: int, most: int | None) -> tuple[int, ...]:
        if most is not None and count > most:
            raise ConfigError(
                f"the conversation has about {count:,} tokens and {most:,} fit (engine.context_window)",
                param="messages",
            )
        return (-1,) * count


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN)


def _unknown() -> ConfigError:
    return ConfigError(
        "this model is forwarded to an endpoint, and its tokens are not known here", param="prompt"
    )
