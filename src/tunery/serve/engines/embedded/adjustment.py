"""What a request changes of its logits before the next token is chosen: bias, penalties, an end put off."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from tunery.core.engine import Sampling


class Adjustment:
    """The changes of one completion, for its row of logits alone.

    Bias first, then the penalty of what was repeated, then those of frequency and presence: vLLM's order, so
    that a client that changes servers keeps its answers. The last two count generated tokens alone.

    Args:
        sampling: How the next token is chosen.
        prompt: Ids whose repetition is penalised, too.
        ends: Ids that end the completion.
        vocab_size: Ids the model knows [count].

    Source:
        Keskar et al. (2019), CTRL, section 4.1 (repetition penalty). OpenAI's API reference, "Frequency and
        presence penalties": ``mu[j] -= c[j] * frequency + (c[j] > 0) * presence``.
    """

    def __init__(
        self, sampling: Sampling, *, prompt: Sequence[int], ends: Collection[int], vocab_size: int
    ) -> None:
        self._sampling = sampling
        self._biased = torch.tensor([i for i, _ in sampling.logit_bias], dtype=torch.long)
        self._bias = torch.tensor([value for _, value in sampling.logit_bias])
        self._counts = torch.zeros(vocab_size)
        self._seen = torch.zeros(vocab_size, dtype=torch.bool)
        if sampling.repetition_penalty != 1:
            self._seen[list(prompt)] = True
        self._ends = torch.tensor(sorted(ends), dtype=torch.long)
        self._generated = 0

    @classmethod
    def of(
        cls, sampling: Sampling, *, prompt: Sequence[int], ends: Collection[int], vocab_size: int
    ) -> Adjustment | None:
        """Return what a request changes; None where that is nothing, which costs nothing."""
        if not sampling.adjusts:
            return None
        return cls(sampling, prompt=prompt, ends=ends, vocab_size=vocab_size)

    def count(self, token: int) -> None:
        """Note that a token was chosen."""
        self._counts[token] += 1
        self._seen[token] = True
        self._generated += 1

    def apply_(self, logits: torch.Tensor) -> None:
        """Change logits, shape ``(vocabulary,)``, in place; call before anything is masked."""
        self._move(logits.device)
        sampling = self._sampling
        if len(self._biased):
            logits[self._biased] += self._bias.to(logits.dtype)
        if sampling.repetition_penalty != 1:
            weaker = torch.where(
                logits > 0, logits / sampling.repetition_penalty, logits * sampling.repetition_penalty
            )
            torch.where(self._seen, weaker, logits, out=logits)
        if sampling.frequency_penalty:
            logits -= (sampling.frequency_penalty * self._counts).to(logits.dtype)
        if sampling.presence_penalty:
            logits -= (sampling.presence_penalty * (self._counts > 0)).to(logits.dtype)

    def put_off_end_(self, logits: torch.Tensor) -> None:
        """Forbid what would end too short a completion, unless nothing else is allowed; after masking."""
        if self._generated >= self._sampling.min_tokens:
            return
        ends = logits[self._ends]
        logits[self._ends] = float("-inf")
        if not bool(torch.isfinite(logits.max())):
            logits[self._ends] = ends

    def _move(self, device: torch.device) -> None:
        if self._counts.device != device:
            self._biased, self._bias = self._biased.to(device), self._bias.to(device)
            self._counts, self._seen = self._counts.to(device), self._seen.to(device)
            self._ends = self._ends.to(device)
