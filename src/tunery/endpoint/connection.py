"""How somebody else's address is spoken to: straight, with no more headers than needed, at its pace."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from tunery.core.errors import ResourceError

if TYPE_CHECKING:
    import httpx2

CONNECT_S = 15.0
"""Longest wait for a connection [s]."""
TRY_AGAIN = frozenset({408, 425, 429})
"""Statuses, beside those from 500, that another attempt at the same request may not meet."""
_PROTOCOL_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length"}
    | {"range", "user-agent"}
)
_CLIENT_HEADER = "x-stainless-raw-response"
"""By which OpenAI's client knows that the answer is read here."""


class Transient(Exception):  # noqa: N818 - an outcome of one attempt, never shown as it is
    """The attempt failed in a way that another one may not."""

    def __init__(
        self, reason: str, *, wait_s: float | None = None, maybe_billed: bool, final: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        """Pause that the endpoint asks for [s]."""
        self.maybe_billed = maybe_billed
        """Whether the endpoint may have worked, and charged, although no answer arrived."""
        self.final = final
        """Whether another attempt at the same request would fail as well."""


def strip(request: httpx2.Request, key: str, own: Mapping[str, str] | None = None) -> None:
    """Leave in a request no more than the protocol needs, the key and headers of our own.

    The client would add facts about this machine, and what ``OPENAI_*`` variables say of another account.
    """
    for name in set(request.headers) - {*_PROTOCOL_HEADERS, _CLIENT_HEADER}:
        del request.headers[name]
    request.headers.update(own or {})
    if key:
        request.headers["Authorization"] = f"Bearer {key}"


def certificates() -> ssl.SSLContext:
    """Return whom to trust, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` heeded, which clients that heed nothing of
    the environment would not."""
    return ssl.create_default_context()


class Pace:
    """When an endpoint may be tried again; where it asks for a pause, all requests to it wait.

    Args:
        attempts: Tries of one request.
        backoff_s: Upper end of the random wait before the second; it doubles with each further one [s].
        max_wait_s: Longest wait before a try [s].
        hint: What to do where the endpoint asks for a longer one.
    """

    def __init__(self, attempts: int, backoff_s: float, max_wait_s: float, *, hint: str) -> None:
        self._attempts, self._backoff_s, self._max_wait_s = attempts, backoff_s, max_wait_s
        self._hint = hint
        self._not_before = 0.0

    def left(self) -> float:
        """Return how long nothing may be sent; zero or less where something may [s]."""
        return self._not_before - asyncio.get_running_loop().time()

    def after(self, failure: Transient, tries: int) -> float:
        """Return the wait before the next try of a request that failed ``tries`` times [s].

        It is drawn from the whole range up to an exponentially growing end ('full jitter'), so that
        requests that failed together do not come back together.

        Raises:
            Transient: There is no next one.
            ResourceError: The endpoint asks for a longer pause than is allowed.

        Source:
            Brooker (2015), Exponential Backoff and Jitter, AWS Architecture Blog.
        """
        if failure.wait_s is not None:
            if failure.wait_s > self._max_wait_s:
                wait = f"{failure.reason}; the endpoint asks to wait {failure.wait_s:,.0f} s"
                raise ResourceError(wait, hint=self._hint)
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + failure.wait_s)
        if failure.final or tries >= self._attempts:
            raise failure
        end = min(self._max_wait_s, self._backoff_s * 2.0 ** (tries - 1))
        return random.uniform(0, end)  # noqa: S311 - spreads load, guards nothing


class Rate:
    """Requests and tokens a minute, spread evenly: no minute ever sees more of either.

    Args:
        requests: Requests a minute at most [count]; None for no limit.
        tokens: Tokens a minute at most [count]; None for no limit.
    """

    def __init__(self, requests: float | None, tokens: float | None) -> None:
        self._each_s = 60 / requests if requests else 0.0
        self._token_s = 60 / tokens if tokens else 0.0
        self._free_at = {"requests": 0.0, "tokens": 0.0}

    def reserve(self, tokens: int) -> float:
        """Return how long the next request has to wait, which counts from then on [s].

        Args:
            tokens: That it uses at most [count].
        """
        now = asyncio.get_running_loop().time()
        start = max(now, *self._free_at.values())
        if self._each_s:
            self._free_at["requests"] = start + self._each_s
        if self._token_s:
            self._free_at["tokens"] = start + tokens * self._token_s
        return start - now

    def settle(self, reserved: int, used: int) -> None:
        """Give back what a request did not use of its tokens [count]."""
        self._free_at["tokens"] -= max(0, reserved - used) * self._token_s


def pause_of(headers: Mapping[str, str]) -> float | None:
    """Return the pause that an answer asks for [s], None where it asks for none.

    ``retry-after-ms`` is OpenAI's own, and finer than ``Retry-After``.
    """
    precise = headers.get("retry-after-ms", "").strip()
    if precise.isascii() and precise.isdigit():
        return int(precise) / 1000
    return retry_after(headers.get("retry-after"), datetime.now(UTC))


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the pause that a ``Retry-After`` header asks for [s], None where it asks for none.

    Source:
        RFC 9110, section 10.2.3: seconds, or a date.

    >>> retry_after("3", datetime(2026, 1, 1, tzinfo=UTC))
    3.0
    >>> retry_after("Thu, 01 Jan 2026 00:00:10 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    10.0
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
