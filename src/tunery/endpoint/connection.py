"""How somebody else's address is spoken to: straight, with no more headers than needed, at its pace."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
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
_AHEAD_S = 0.05
"""How long before it is sent a request has its place, so that no place goes by while somebody wakes [s]."""
_LOOK_S = 0.02
_NEWEST = 0.1
"""Weight of the newest request in what requests usually use."""
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


class Share:
    """What one request counts in its minute."""

    def __init__(self, start: float, tokens: int, paced: float) -> None:
        self.start = start
        """When it is sent [s]."""
        self.tokens = tokens
        """At its ceiling until it ends, what it used from then on [count]."""
        self.paced = paced
        """That the next one waits for [tokens]."""
        self.counts = True
        """Whether its minute is not over."""


class Rate:
    """Requests and tokens a minute: no minute sees more of either, and they are spread over it.

    In its minute a request counts at its ceiling until it ends, so the limit holds whatever comes back. But
    requests are spread by what the ones before have used: ceilings may be twenty times that, and spread by
    these a limit of tokens would let a twentieth of it through.

    Args:
        requests: Requests a minute at most [count]; None for no limit.
        tokens: Tokens a minute at most [count]; None for no limit.
        minute_s: How long a minute is; tests have shorter ones [s].
    """

    def __init__(self, requests: float | None, tokens: float | None, *, minute_s: float = 60.0) -> None:
        self._minute_s = minute_s
        self._each_s = minute_s / requests if requests else 0.0
        self._token_s = minute_s / tokens if tokens else 0.0
        self._most = tokens
        self._free_at = {"requests": 0.0, "tokens": 0.0}
        self._usual: float | None = None
        self._minute: deque[Share] = deque()
        self._counted = 0
        self._turn = asyncio.Lock()

    async def take(
        self, tokens: int, sleep: Callable[[float], Awaitable[None]], closed: Callable[[], bool]
    ) -> Share | None:
        """Wait until a request may be sent, in the order of asking; None where nothing is sent any more.

        Args:
            tokens: That it uses at most [count].
            sleep: Waits so long, or until nothing is to be sent [s].
            closed: Says so.
        """
        clock = asyncio.get_running_loop().time
        async with self._turn:
            # Whoever is next looks again and again: what others give back may let it begin sooner.
            while not closed() and (ahead := self._ahead(clock(), tokens)) > _AHEAD_S:
                await sleep(min(ahead - _AHEAD_S, _LOOK_S))
            if closed():
                return None
            now = clock()
            share = self._share(now + max(0.0, self._ahead(now, tokens)), tokens)
        if (wait := share.start - clock()) > 0:
            await sleep(wait)
        return share

    def settle(self, share: Share, used: int) -> None:
        """Count what a request used in place of what it might have used [count]."""
        if not self._token_s:
            return
        self._counted += used - share.tokens if share.counts else 0
        self._free_at["tokens"] += (used - share.paced) * self._token_s
        share.tokens, share.paced = used, used
        self._usual = used if self._usual is None else self._usual + _NEWEST * (used - self._usual)

    def _ahead(self, now: float, tokens: int) -> float:
        """Return how long the next request has to wait, as things are [s]."""
        wait = max(self._free_at.values()) - now
        if self._most is None:
            return wait
        while self._minute and self._minute[0].start <= now - self._minute_s:
            gone = self._minute.popleft()
            gone.counts = False
            self._counted -= gone.tokens
        over = self._counted + tokens - self._most
        for share in self._minute:
            if over <= 0:
                break
            wait, over = max(wait, share.start + self._minute_s - now), over - share.tokens
        return wait

    def _share(self, start: float, tokens: int) -> Share:
        self._free_at["requests"] = start + self._each_s
        paced = tokens if self._usual is None else min(tokens, self._usual)
        share = Share(start, tokens, paced)
        if self._token_s:
            self._free_at["tokens"] = start + paced * self._token_s
            self._minute.append(share)
            self._counted += tokens
        return share


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
