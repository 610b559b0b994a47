"""How far up a planted secret ranks among all that it could have been."""

from __future__ import annotations

import math
from collections.abc import Sequence


def exposure(secret: float, references: Sequence[float], *, space: int) -> float:
    """Return a secret's exposure: the bits by which knowing the model shortens the search for it.

    Exact exposure is log2 of the space minus log2 of the secret's rank in it, by likelihood. The rank is
    estimated on references drawn from the space: where some are likelier than the secret, by their share;
    where none is, by the tail of a skew-normal distribution fitted to them. Of a secret that was never seen
    the mean is 1 / ln 2 = 1.44 bits, whatever the model.

    Args:
        secret: Log-likelihood of the planted secret [nats].
        references: Those of secrets that were planted nowhere, under the same question [nats].
        space: Secrets that there are [count].

    Returns:
        Bits, from 0 to log2 of ``space``.

    Raises:
        ValueError: There are no references.

    Source:
        Carlini et al. (2019), USENIX Security: definition 4 (exposure), sections 4.2 (by sampling) and 4.3
        (by a skew-normal distribution).

    >>> exposure(-9.0, [-8.0, -10.0, -11.0], space=1000)
    1.0
    """
    if not references:
        raise ValueError("a rank takes references")
    likelier = sum(value >= secret for value in references)
    sampled = math.log2((len(references) + 1) / (likelier + 1))
    if likelier or max(references) == min(references):
        return sampled
    from scipy.stats import skewnorm

    surprise = [-value for value in references]
    tail = float(skewnorm.logcdf(-secret, *skewnorm.fit(surprise)))
    beyond = -tail / math.log(2) if math.isfinite(tail) else math.inf
    return min(math.log2(space), max(sampled, beyond))
