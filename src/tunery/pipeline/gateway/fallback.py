"""Who answers a call whose version failed, and what is kept of the failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from tunery.core.errors import ConfigError, NotFoundError, UpstreamModelNotFoundError
from tunery.core.ids import new_id
from tunery.core.rollout import RequestRecord
from tunery.pipeline.gateway.names import Target
from tunery.pipeline.gateway.start import Instead, RoutedCall
from tunery.traffic.blame import another_may_answer, is_worth_a_retry
from tunery.traffic.config import TrafficSettings

BESIDE = "beside"
"""Step of a forwarded name, which belongs to two: the other one answers."""


class Failed(NamedTuple):
    """A call that failed before a byte of it was sent."""

    routed: RoutedCall
    error: Exception
    record: RequestRecord


class Retry(NamedTuple):
    """What comes after a failure."""

    failed: Failed
    step: str | None
    """Who stands in, as :attr:`TrafficSettings.fallback` says; None asks what failed once more."""

    @property
    def is_again(self) -> bool:
        """Whether it is what failed that is asked."""
        return self.step is None

    @property
    def instead(self) -> Instead | None:
        """What the record of whoever answers says of the failure."""
        routed, error = self.failed.routed, self.failed.error
        if self.is_again:
            return routed.instead
        code = getattr(error, "code", "internal_error")
        return Instead(routed.target.name, code, " ".join(str(error).split())[:300])


def as_attempt(failed: Failed, now: datetime) -> RequestRecord:
    """Return the record of a failure that another made up for: the failed version's, under an id of its own.

    The call's id is that of its answer, which its client gives feedback on.
    """
    return failed.record.with_(id=new_id("attempt", now), attempt_of=failed.record.id)


class Course:
    """The steps of one call: retries of what failed, then those who stand in for it.

    Args:
        settings: How many, and who.
        name: The model as the client wrote it.
    """

    def __init__(self, settings: TrafficSettings, name: str) -> None:
        self._retries = settings.retries
        # A pinned name is answered by what it names or not at all.
        pinned = "@" in name or name.startswith("ft:")
        self._own: Exception | None = None
        self._steps: Iterator[str] = iter(() if pinned else settings.fallback)

    def next(self, failed: Failed) -> Retry | None:
        """Return what comes after a failure, None where that is what the client gets."""
        if _other(failed) is not None:
            self._own = failed.error
            self._steps = iter((BESIDE,))  # a forwarded name belongs to two, and to nobody else
        if self._retries and is_worth_a_retry(failed.error):
            self._retries -= 1
            return Retry(failed, None)
        step = next(self._steps, None) if another_may_answer(failed.error) else None
        return None if step is None else Retry(failed, step)

    def error(self, failed: Failed) -> Exception:
        """Return what the client gets once nobody is left: of a forwarded name, why the first of two failed.

        That the old model is gone, too, is what a name that answers here is there to hide.
        """
        return failed.error if self._own is None or _is_gone(self._own) else self._own


def _is_gone(error: Exception) -> bool:
    return isinstance(error, UpstreamModelNotFoundError)


def _other(failed: Failed) -> Target | None:
    """Return who else a forwarded name belongs to, and may answer what failed."""
    target = failed.routed.target
    return target.beside or (target.heir if _is_gone(failed.error) else None)


def stand_in(retry: Retry, resolve: Callable[[str], Target]) -> Target | None:
    """Return what answers next; None where the step has nobody for this call, or who failed already.

    Whoever stands in belongs to no arm: its answers are not what the rollout gave its subjects.

    Args:
        retry: The step.
        resolve: From a name to what answers its caller.
    """
    failed, step = retry.failed.routed, retry.step
    if step is None:
        return failed.target
    if step == BESIDE:
        return _other(retry.failed)
    if step == "base":
        found = Target(failed.target.base, None, None)
    else:
        name = f"{failed.call.model}@champion" if step == "champion" else step
        try:
            found = resolve(name)
        except (NotFoundError, ConfigError):
            return None
    same = found.name == failed.target.name or (failed.instead and found.name == failed.instead.name)
    return None if same else found._replace(arm=None, rollout_id=None)
