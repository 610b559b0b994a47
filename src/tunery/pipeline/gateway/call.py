"""What a client asks of the gateway, free of any wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunery.core.access import Caller
from tunery.core.engine import Constraint, Sampling
from tunery.core.example import Message
from tunery.core.ids import sha256_text
from tunery.traffic.fair_queue import Flow

_LARGE = 64 * 2**10
"""Text of a call from which on its start takes long enough to be felt by others [characters]."""
_SHORT = 4 * 2**10
"""Text of a call up to which its start takes well under a millisecond [characters]."""


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """One request for completions."""

    id: str
    model: str
    """As the client wrote it."""
    caller: Caller
    """Who sends it; what the name may mean, and whose the record is, follows from that."""
    subject: str
    """See :func:`subject_of`."""
    messages: tuple[Message, ...] | None = None
    """A conversation; None where ``prompts`` are given."""
    prompts: tuple[str | tuple[int, ...], ...] = ()
    """Plain texts or ids, no chat template applied."""
    choices: int = 1
    """Completions for each prompt [count]."""
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    chat: Mapping[str, Any] | None = None
    """As :attr:`tunery.core.engine.GenerationRequest.chat`."""
    prompt_logprobs: int | None = None
    """As :attr:`tunery.core.engine.GenerationRequest.prompt_logprobs`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    truncate: bool = False
    """Whether turns are left out at the beginning of a conversation that does not fit."""
    response: Mapping[str, Any] | None = None
    """As :attr:`tunery.core.rollout.RequestRecord.response`."""
    keep_text: bool = True
    """Whether the record of this call holds its texts."""
    timeout_s: float | None = None
    """How long its client waits [s]; None where it does not say."""

    @property
    def flow(self) -> Flow:
        """Whose share of the engine it takes."""
        return Flow(self.caller.key_id or "", self.caller.weight, self.caller.priority)

    @property
    def is_large(self) -> bool:
        """Whether its start takes long: much to tokenise, or a schema to compile."""
        if self.constraint is not None and self.constraint.labels is None:
            return True
        return self._characters > _LARGE

    @property
    def is_short(self) -> bool:
        """Whether it is rendered and tokenised in less time than handing it to a thread would take."""
        return self.constraint is None and self.choices == 1 and self._characters < _SHORT

    @property
    def _characters(self) -> int:
        given = [m.content for m in self.messages or ()] + [p for p in self.prompts if isinstance(p, str)]
        return sum(map(len, given))


def subject_of(user: str | None, key_id: str | None) -> str:
    """Return the hash that requests stick by: of the user where the client names one, else of its key."""
    return sha256_text(f"user\n{user}" if user else f"key\n{key_id or ''}")[:32]
