"""Every error a user can meet, with the exit code and the HTTP status it becomes.

::

    TuneryError
      x ConfigError      a recipe or a setting is wrong       exit 2   HTTP 400
          - ForbiddenError   it belongs to somebody else    exit 2   HTTP 403
          - OversizeError    no limit will ever let it in   exit 2   HTTP 400
          - RefusedByTemplate  the base cannot write the turns  exit 2   HTTP 400
          - UpstreamRejectedError  an upstream does not take it  exit 2   HTTP 400
              - UpstreamModelNotFoundError  it knows no such model  exit 2   HTTP 404
          - DamagedRowError     a row is not as it was written    exit 2   HTTP 500
      x NotFoundError    a name that does not exist           exit 3   HTTP 404
      x ConflictError    the state does not allow it now      exit 4   HTTP 409
          - BusyError    another process works on it          exit 4   HTTP 409
          - DamagedError stored files are not what they were  exit 4   HTTP 409
      x GateFailed       the evaluation said no               exit 5   HTTP 409
      x ResourceError    out of memory, disk or time          exit 6   HTTP 503
          - LimitError   as many at once as may be            exit 6   HTTP 429
              - ThrottledError  a limit lets it in later      exit 6   HTTP 429
              - QuotaError   a budget is used up              exit 6   HTTP 429
          - OverloadError  too many requests wait             exit 6   HTTP 503
          - CircuitOpenError  an engine is left alone         exit 6   HTTP 503
          - TooLargeNowError  no memory for this request now  exit 6   HTTP 503
          - UpstreamThrottledError  an upstream's own limit   exit 6   HTTP 429
          - UpstreamRefusedError  an upstream refuses this server  exit 6   HTTP 502
          - OverdueError   it took too long                   exit 6   HTTP 504
              - SilentEngineError  not a token of it came     exit 6   HTTP 504
          - DivergedError  the loss went astray in training  exit 6  HTTP 503
          - UnavailableError    the database is away          exit 6   HTTP 503

Logic raises these and nothing else for what a user can fix. The CLI and the API each
translate them in one place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar


class TuneryError(Exception):
    """Something the user can fix; shown without a traceback.

    Args:
        message: What happened, with the value.
        hint: The next command to type or the change to make; shown on its own line.
        param: Name of the setting or field at fault, for the API's ``error.param``.
    """

    exit_code: ClassVar[int] = 1
    http_status: int = 500
    """One for each kind, but of what an endpoint behind says that which it gave; so is :attr:`code`."""
    code: str = "error"

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.hint}" if self.hint else self.message


class ConfigError(TuneryError):
    """A recipe, a setting, a row or a request is wrong."""

    exit_code = 2
    http_status = 400
    code = "invalid_config"

    @classmethod
    def of_problems(
        cls,
        what: str,
        problems: Sequence[str],
        *,
        limit: int | None = None,
        total: int | None = None,
        hint: str | None = None,
    ) -> ConfigError:
        """Build one error that lists every problem, because fixing them one run at a time is misery.

        Args:
            what: The file, setting or request at fault.
            problems: One sentence each, at least one.
            limit: How many to write out; the rest is counted. None writes all.
            total: How many there are where ``problems`` holds only the first of them [count].
            hint: The next command to type.
        """
        found = len(problems) if total is None else total
        if found == 1:
            return cls(f"{what}: {problems[0]}", hint=hint)
        lines = "".join(f"\n  - {p}" for p in first_of(problems, limit or len(problems), total=total))
        return cls(f"{what}: {found:,} problems{lines}", hint=hint)


class ForbiddenError(ConfigError):
    """It belongs to somebody else."""

    http_status = 403
    code = "permission_denied"


class OversizeError(ConfigError):
    """A request needs more than a limit ever gives."""

    code = "request_exceeds_limit"


class RefusedByTemplate(ConfigError):  # noqa: N818 - named after what happened to the conversation
    """A conversation that the base's chat template does not take.

    Args:
        words: The template's own, or what it does with the conversation.
        param: Name of the field at fault, such as ``messages[2]``.
    """

    def __init__(self, words: str, *, param: str | None = None) -> None:
        where = f"{param}: " if param else ""
        super().__init__(f"{where}the base's chat template refuses this conversation: {words}", param=param)
        self.words = words


class UpstreamRejectedError(ConfigError):
    """An endpoint that a request was passed on to does not take it.

    Args:
        message: In the endpoint's own words.
        param: Name of the field at fault, by the endpoint's word.
        code: The endpoint's own, which clients may look at: ``context_length_exceeded``.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, param=param)
        if code is not None:
            self.code = code


class UpstreamModelNotFoundError(UpstreamRejectedError):
    """An endpoint that a request was passed on to knows no such model, or not any more."""

    http_status = 404
    code = "model_not_found"


class DamagedRowError(ConfigError):
    """A row of the database is not what was written into it; names the row and what mends it."""

    http_status = 500
    code = "damaged_row"


class NotFoundError(TuneryError):
    """A name that does not exist."""

    exit_code = 3
    http_status = 404
    code = "not_found"

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], *, hint: str | None = None) -> NotFoundError:
        """Say that ``name`` is unknown, what the nearest name is, and what exists (first ten)."""
        names = sorted(set(known))
        existing = f"there is: {listed(names, 10)}" if names else f"there is no {kind} yet"
        return cls(f"no {kind} named {name!r}{did_you_mean(name, names)} ({existing})", hint=hint)


class ConflictError(TuneryError):
    """The state does not allow it now."""

    exit_code = 4
    http_status = 409
    code = "conflict"


class BusyError(ConflictError):
    """Another process works on it right now; whoever can wait may try again."""

    code = "busy"


class DamagedError(ConflictError):
    """Stored files are gone or are not what they were; nothing is computed from them."""

    code = "damaged"


class GateFailed(TuneryError):  # noqa: N818 - a verdict, not a malfunction
    """The evaluation said no."""

    exit_code = 5
    http_status = 409
    code = "gate_failed"


class ResourceError(TuneryError):
    """Out of memory, disk or time."""

    exit_code = 6
    http_status = 503
    code = "resource_exhausted"
    retry_after_s: float = 2
    """When a client may try again [s]."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, param=param)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class LimitError(ResourceError):
    """As many of a kind are at work as may be; whoever can wait may try again."""

    http_status = 429
    code = "rate_limit_exceeded"
    retry_after_s = 5


class ThrottledError(LimitError):
    """A limit does not let it in now; after ``retry_after_s`` it does."""


class QuotaError(ThrottledError):
    """A budget is used up until its day or month is over, or something is deleted; none is to try before."""

    code = "insufficient_quota"


class OverloadError(ResourceError):
    """More requests than may wait, or one that waited too long for its turn."""

    code = "server_overloaded"


class CircuitOpenError(ResourceError):
    """An engine failed again and again and is left alone for a while."""

    code = "circuit_open"


class TooLargeNowError(ResourceError):
    """There is no memory for one request beside those that run."""


class UpstreamThrottledError(ResourceError):
    """An endpoint that a request was passed on to takes no more of them now."""

    http_status = 429
    code = LimitError.code


class UpstreamRefusedError(ResourceError):
    """An endpoint that a request was passed on to does not let this server in: its key, account or address.

    The client did nothing wrong, and trying again changes nothing.
    """

    http_status = 502
    code = "upstream_refused"


class OverdueError(ResourceError):
    """An answer took longer than it may."""

    http_status = 504
    code = "timeout"


class SilentEngineError(OverdueError):
    """An engine that had a request gave not a token of an answer in the time that it has for that."""


class DivergedError(ResourceError):
    """Training went astray; the checkpoint from before is kept.

    Args:
        message: What happened.
        hint: What to change.
        param: Name of the setting at fault.
        step: Optimizer step at which it was seen.
    """

    code = "training_diverged"

    def __init__(
        self, message: str, *, hint: str | None = None, param: str | None = None, step: int = 0
    ) -> None:
        super().__init__(message, hint=hint, param=param)
        self.step = step


class UnavailableError(ResourceError):
    """The database does not answer right now; the same call may be made again."""

    code = "database_unavailable"


class LeaseLostError(BaseException):
    """Who works on a job does not hold it any more and may change nothing.

    No :class:`Exception`: whoever records failures or cleans up after a Ctrl-C must not take it for one.
    """


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to ``name``, or None when nothing is close.

    >>> nearest("learnin_rate", ["learning_rate", "rank"])
    'learning_rate'
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return what goes behind a sentence about an unknown name; empty when nothing known is close to it.

    >>> "unknown setting" + did_you_mean("learnin_rate", ["learning_rate", "rank"])
    "unknown setting; did you mean 'learning_rate'?"
    """
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""


def first_of(items: Sequence[str], limit: int, *, total: int | None = None) -> list[str]:
    """Return the first lines of many, and a last one that counts the rest.

    Args:
        items: All of them, or the first of them where ``total`` says how many there are.
        limit: How many to return.
        total: How many there are; None means that ``items`` are all [count].

    >>> first_of(["a", "b", "c"], 1), first_of(["a"], 1), first_of(["a"], 1, total=1001)
    (['a', 'and 2 more'], ['a'], ['a', 'and 1,000 more'])
    """
    shown = list(items[:limit])
    more = (len(items) if total is None else total) - len(shown)
    return [*shown, f"and {more:,} more"] if more > 0 else shown


def listed(items: Sequence[str], limit: int, *, total: int | None = None, separator: str = ", ") -> str:
    """Return the first names of many as part of a sentence, and how many more there are.

    Args:
        items: All of them, or the first of them where ``total`` says how many there are.
        limit: How many to name.
        total: How many there are; None means that ``items`` are all [count].
        separator: What stands between two.

    >>> listed(["a", "b", "c"], 2), listed(["a", "b"], 2)
    ('a, b and 1 more', 'a, b')
    """
    more = (len(items) if total is None else total) - limit
    return separator.join(items[:limit]) + (f" and {more:,} more" if more > 0 else "")
