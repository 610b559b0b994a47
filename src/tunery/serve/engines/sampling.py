"""Choose a token from logits, and say how likely it was.

A seeded choice must not depend on what else was in the batch. Logits do, in their last bits (1e-6 or so),
because matrix products are summed in another order. So one uniform number a token is drawn from the
request's own generator and located in the cumulative distribution *in vocabulary order*: noise then moves
boundaries by about 1e-6, and only a draw that falls into such a sliver, about one in a million tokens, can
change. In order of probability, near-equal tokens would swap places and carry the draw with them. Rounding
logits first would not help: it moves boundaries rarely but then by as much more.
"""

from __future__ import annotations

import secrets

import torch

_NUCLEUS_GUESS = 512  # tokens; sorting a whole vocabulary costs milliseconds


def generator(seed: int | None) -> torch.Generator:
    """Return a request's own source of randomness, on the CPU."""
    value = secrets.randbits(63) if seed is None else seed % 2**63
    return torch.Generator().manual_seed(value)


def sample(logits: torch.Tensor, *, temperature: float, top_p: float, source: torch.Generator) -> int:
    """Draw one token.

    Args:
        logits: Shape ``(vocabulary,)``; ``-inf`` where a token is not allowed.
        temperature: Above 0.
        top_p: Nucleus in (0, 1].
        source: Gives one uniform number.

    Source:
        Holtzman et al. (2020), The Curious Case of Neural Text Degeneration, section 3.1 (nucleus).
    """
    scaled = logits.detach().to("cpu", torch.float64)
    probabilities = torch.softmax((scaled - scaled.max()) / temperature, dim=-1)
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(0)
    draw = torch.rand((), dtype=torch.float64, generator=source) * cumulative[-1]
    token = int(torch.searchsorted(cumulative, draw, right=True))
    return token if token < len(cumulative) else int(probabilities.nonzero()[-1])


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the smallest set of most likely tokens whose probabilities sum to ``top_p``."""
    values, ids = probabilities.topk(min(_NUCLEUS_GUESS, len(probabilities)))
    if float(values.sum()) < top_p:
        values, ids = probabilities.sort(descending=True)
    before = values.cumsum(0) - values
    kept = before < top_p
    kept[0] = True
    result = torch.zeros_like(probabilities)
    result[ids[kept]] = values[kept]
    return result


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities in float64, last dimension normalised [nats]."""
    return torch.log_softmax(logits.detach().to(torch.float64), dim=-1)
