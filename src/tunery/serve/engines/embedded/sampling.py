"""Choose a token from logits.

A seeded choice must not depend on what else was in the batch. Logits do, in their last bits (1e-6 or so),
because matrix products are summed in another order. So every token of the vocabulary draws its own waiting
time from the request's own generator, and the token that comes first, likely ones running faster, is chosen.
Noise can change the winner only where first and second are that close, about once in a million tokens
whatever the size of the vocabulary. Locating one uniform number in the cumulative distribution is cheaper,
but every boundary moves with the noise of all tokens before it, the more often the larger the vocabulary,
and in order of probability near-equal tokens would swap places besides. Rounding logits first would not
help: it moves them rarely, but then by as much more.
"""

from __future__ import annotations

import secrets

import torch

_NUCLEUS_GUESS = 512  # tokens; sorting a whole vocabulary costs milliseconds


def generator(seed: int | None) -> torch.Generator:
    """Return a request's own source of randomness, on the CPU."""
    value = secrets.randbits(63) if seed is None else seed % 2**63
    return torch.Generator().manual_seed(value)


def sample(
    logits: torch.Tensor,
    *,
    temperature: float,
    top_p: float,
    source: torch.Generator,
    top_k: int = 0,
    min_p: float = 0.0,
) -> int:
    """Draw one token among those that ``min_p``, then ``top_k``, then ``top_p`` leave, in vLLM's order.

    Args:
        logits: Shape ``(vocabulary,)``; ``-inf`` where a token is not allowed.
        temperature: Above 0.
        top_p: Nucleus in (0, 1].
        source: Gives one waiting time a token of the vocabulary.
        top_k: Most likely tokens to draw from [count]; 0 for all.
        min_p: Least share of the likeliest token's probability in [0, 1].

    Source:
        Holtzman et al. (2020), The Curious Case of Neural Text Degeneration, section 3.1 (nucleus).
        Nguyen et al. (2024), Turning Up the Heat: Min-p Sampling, section 3.
        Maddison, Tarlow, Minka (2014), A* Sampling, section 2 (Gumbel-max; the race of exponentials is
        the same draw).
    """
    scaled = logits.detach().to("cpu", torch.float64)
    probabilities = torch.softmax((scaled - scaled.max()) / temperature, dim=-1)
    if min_p > 0:
        probabilities[probabilities < min_p * probabilities.max()] = 0
    if 0 < top_k < len(probabilities):
        values, ids = probabilities.topk(top_k)
        probabilities = torch.zeros_like(probabilities).index_put((ids,), values)
    if top_p < 1:
        if min_p > 0 or top_k > 0:
            probabilities = probabilities / probabilities.sum()
        probabilities = _nucleus(probabilities, top_p)
    waiting = torch.empty_like(probabilities).exponential_(generator=source)
    return int((probabilities / waiting).argmax())


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
