"""From a limit that does not let a call in to the error that its client reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunery.core.errors import OversizeError, QuotaError, ThrottledError, TuneryError
from tunery.core.figures import counted
from tunery.core.limits import ALL
from tunery.traffic.limits.account import Claim, Obstacle

_BUSY_S = 1.0
"""When to try again where calls in flight must end first, which nobody knows when they do [s]."""
_WHOSE = {"key": "this API key", "user": "this user"}


class Size(NamedTuple):
    """What a call may take."""

    prompt_tokens: int
    answer_tokens: int
    """At most, all answers together."""
    answers: int
    """Choices of all prompts [count]."""

    @property
    def tokens(self) -> int:
        """All of it [count]."""
        return self.prompt_tokens + self.answer_tokens


def refusal_of(found: Sequence[tuple[Claim, Obstacle]], size: Size) -> TuneryError:
    """Return the error of what stands longest in a call's way."""
    for why in ("never", "spent"):
        for claim, obstacle in found:
            if obstacle.why == why:
                return (_oversize if why == "never" else _spent)(claim, obstacle, size)
    full = [(claim, obstacle) for claim, obstacle in found if obstacle.why == "full"]
    if full:
        claim, obstacle = max(full, key=lambda pair: pair[1].wait_s)
        # One that waits for calls in flight may stand in its way then, too; that one nobody can time.
        return ThrottledError(
            f"{_limit(claim, obstacle)}; {_left(obstacle)}; one of this size is let in after "
            f"{obstacle.wait_s:.3f} s",
            retry_after_s=obstacle.wait_s,
            hint=_smaller(obstacle.left, size) if obstacle.limit.startswith("tokens") else None,
        )
    claim, obstacle = found[0]
    return ThrottledError(
        f"{_limit(claim, obstacle)}, and {_in_flight(obstacle)}",
        retry_after_s=_BUSY_S,
        hint="try again shortly",
    )


def _oversize(claim: Claim, obstacle: Obstacle, size: Size) -> OversizeError:
    needed = _amount(obstacle.limit, obstacle.needed)
    of = "" if obstacle.limit.startswith("requests") else f" ({_parts(size)})"
    hint = "ask the operator for a higher limit"
    if obstacle.limit.startswith("tokens"):
        hint = _smaller(obstacle.bound, size) or f"shorten the prompt, or {hint}"
    param = "max_tokens" if obstacle.limit.startswith("tokens") else None
    return OversizeError(
        f"{_limit(claim, obstacle)}; this request needs {needed}{of} and can never be let in",
        hint=hint,
        param=param,
    )


def _spent(claim: Claim, obstacle: Obstacle, size: Size) -> QuotaError:
    hint = _smaller(obstacle.left, size) if obstacle.limit.startswith("tokens") else None
    period = obstacle.limit.rpartition("_")[2]
    return QuotaError(
        f"{_limit(claim, obstacle)}; {_left(obstacle)}; the next {period} begins in "
        f"{obstacle.wait_s / 3600:.1f} h (UTC)",
        retry_after_s=obstacle.wait_s,
        hint=hint,
    )


def _limit(claim: Claim, obstacle: Obstacle) -> str:
    if obstacle.limit == "parallel_requests":
        return f"{_whose(claim)} may have {counted(int(obstacle.bound), 'request')} answered at once"
    period = obstacle.limit.rpartition("_")[2]
    return f"{_whose(claim)} may use {_amount(obstacle.limit, obstacle.bound)} a {period}"


def _whose(claim: Claim) -> str:
    if claim.account == ALL:
        return "all calls together"
    parts = (part.partition("=") for part in claim.account.split(" "))
    return " on ".join(_WHOSE.get(name, f"{name} {value}") for name, _, value in parts)


def _amount(limit: str, value: float) -> str:
    if limit.startswith("usd"):
        return f"{value:.6f}".rstrip("0").rstrip(".") + " US dollars"
    return counted(int(value), "token" if limit.startswith("tokens") else "request")


def _left(obstacle: Obstacle) -> str:
    left, needed = _amount(obstacle.limit, obstacle.left), _amount(obstacle.limit, obstacle.needed)
    return f"{left} left, and this request may need {needed}"


def _in_flight(obstacle: Obstacle) -> str:
    if obstacle.limit == "parallel_requests":
        return "so many are being answered"
    needed = _amount(obstacle.limit, obstacle.needed)
    return f"what is left is reserved by requests in flight; this one may need {needed}"


def _parts(size: Size) -> str:
    answers = f"{counted(size.answers, 'answer')} of up to {size.answer_tokens // max(1, size.answers):,}"
    return f"{size.prompt_tokens:,} of the prompt and {answers}"


def _smaller(left: float, size: Size) -> str | None:
    """Return how the same request would fit; None where its prompt alone is too large."""
    each = int(left - size.prompt_tokens) // max(1, size.answers)
    return f"max_tokens={each}, which would fit" if each > 0 else None
