"""What a canary watches, and the verdict its numbers give."""

from __future__ import annotations

from typing import Literal

from tunery.core.config import Record
from tunery.core.figures import change, gap, milliseconds, number, percent, rate
from tunery.deploy.confidence import Counts, difference_interval
from tunery.deploy.config import CanaryConfig
from tunery.store.requests import Tally

Action = Literal["continue", "rollback", "promote"]
GuardVerdict = Literal["worse", "not worse", "open"]


class GuardReading(Record):
    """One guard's numbers."""

    guard: str
    """``error rate``, ``invalid format`` or ``dislikes``."""
    champion: tuple[int, int]
    """Events and trials [count]."""
    challenger: tuple[int, int]
    """Events and trials [count]."""
    tolerated: float
    """Increase of the rate that is accepted, as a difference of shares."""
    low: float
    """Smallest increase that the counts leave possible."""
    high: float
    """Largest increase that the counts leave possible."""
    confidence: float
    """Chance that the true increase lies between low and high at every moment of the rollout."""
    verdict: GuardVerdict
    """``worse`` when even ``low`` is above what is tolerated, ``not worse`` when even ``high`` is within
    it."""

    def sentence(self) -> str:
        """Say the numbers in a clause."""
        text = f"{self.guard} {rate(*self.challenger)} against the champion's {rate(*self.champion)}"
        if self.verdict == "worse":
            return (
                f"{text}: worse by at least {gap(self.low, share=True)} where "
                f"{gap(self.tolerated, share=True)} are tolerated ({percent(self.confidence)} confidence, "
                "however often looked at)"
            )
        if self.verdict == "not worse":
            return (
                f"{text}: worse by at most {_most(self.high)}, within the {gap(self.tolerated, share=True)} "
                "tolerated"
            )
        return f"{text}: not shown to be worse, though up to {_most(self.high)} remain possible"


class Judgement(Record):
    """What a canary's numbers say should happen now."""

    action: Action
    reason: str
    """Why, with the numbers, in one sentence."""
    guards: tuple[GuardReading, ...] = ()
    latency_p95_ratio: float | None = None
    """Challenger's over the champion's; None while an arm has answered nothing."""


def weigh(config: CanaryConfig, champion: Tally, challenger: Tally, *, hours: float) -> Judgement:
    """Judge a canary from the counts of both arms.

    Every rate guard gets an equal part of ``alpha``, so that all together raise a false alarm with at most
    that chance over the whole rollout, at any number of looks. A guard without observations never objects.

    Args:
        champion: What the champion's arm adds up to during this rollout.
        challenger: The challenger's.
        hours: Since the rollout began [h].
    """
    guards = _read(config, champion, challenger)
    slow, slower = champion.latency_ms_p95 or 0.0, challenger.latency_ms_p95
    ratio = slower / slow if slow and slower is not None else None

    def judged(action: Action, reason: str) -> Judgement:
        return Judgement(action=action, reason=reason, guards=guards, latency_p95_ratio=ratio)

    clauses = "; ".join(g.sentence() for g in guards) or "nothing is watched"
    if challenger.requests < config.min_requests:
        return judged(
            "continue",
            f"{challenger.requests} challenger requests of the {config.min_requests} that a verdict needs",
        )
    if broken := [g for g in guards if g.verdict == "worse"]:
        return judged("rollback", "; ".join(g.sentence() for g in broken))
    progress = _progress(config, challenger.requests, hours)
    if not _at_horizon(config, challenger.requests, hours):
        return judged("continue", f"{progress}; {clauses}")
    limit = config.max_latency_p95_ratio
    if limit is not None and ratio is not None and ratio > limit:
        return judged(
            "continue",
            f"held at the horizon ({progress}): latency p95 "
            f"{milliseconds(slower or 0)} is {number(ratio)} times the champion's {milliseconds(slow)}, "
            f"{limit:g} being the most; {clauses}",
        )
    if config.on_horizon == "hold":
        return judged("continue", f"held at the horizon ({progress}) for a person to promote; {clauses}")
    return judged("promote", f"ran its course ({progress}); {clauses}")


def _read(config: CanaryConfig, champion: Tally, challenger: Tally) -> tuple[GuardReading, ...]:
    """Return the reading of every guard that is watched, those without observations left out."""
    watched = {
        "error rate": config.max_error_rate_increase,
        "invalid format": config.max_format_invalid_increase,
        "dislikes": config.max_dislike_increase,
    }
    active = {name: tolerated for name, tolerated in watched.items() if tolerated is not None}
    before, after = _counts(champion), _counts(challenger)
    readings = []
    for name, tolerated in active.items():
        a, b = before[name], after[name]
        if not b.n:
            continue
        alpha = config.alpha / len(active)
        low, high = difference_interval(a, b, alpha)
        verdict: GuardVerdict = "worse" if low > tolerated else "not worse" if high <= tolerated else "open"
        readings.append(
            GuardReading(
                guard=name,
                champion=a,
                challenger=b,
                tolerated=tolerated,
                low=low,
                high=high,
                confidence=1 - alpha,
                verdict=verdict,
            )
        )
    return tuple(readings)


def _counts(arm: Tally) -> dict[str, Counts]:
    return {
        "error rate": Counts(arm.errors, arm.requests),
        "invalid format": Counts(arm.format_checked - arm.format_valid, arm.format_checked),
        "dislikes": Counts(arm.rated - arm.liked, arm.rated),
    }


def _at_horizon(config: CanaryConfig, requests: int, hours: float) -> bool:
    enough = config.horizon_requests is None or requests >= config.horizon_requests
    return enough and (config.horizon_hours is None or hours >= config.horizon_hours)


def _progress(config: CanaryConfig, requests: int, hours: float) -> str:
    of_requests = "" if config.horizon_requests is None else f" of {config.horizon_requests}"
    parts = [f"{requests}{of_requests} challenger requests"]
    if config.horizon_hours is not None:
        parts.append(f"{hours:.1f} of {config.horizon_hours:g} hours")
    return ", ".join(parts)


def _most(increase: float) -> str:
    """Write an upper bound; below nothing it says that the rate fell."""
    return change(increase, share=True) if increase < 0 else gap(increase, share=True)
