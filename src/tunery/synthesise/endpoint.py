"""The teacher's endpoint: one attempt at one request, and what its answer means."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tunery.core.errors import ConfigError, ResourceError
from tunery.core.figures import size
from tunery.synthesise.config import TeacherConfig
from tunery.text.normalise import is_unicode

if TYPE_CHECKING:
    import aiohttp

_LARGEST_ANSWER = 8 * 1024 * 1024
_CONNECT_S = 15.0
_MESSAGE_CHARS = 300
_TRY_AGAIN = frozenset({408, 425, 429})
_OUT_OF_FUNDS = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
Turns = Sequence[Mapping[str, str]]
"""``role``/``content`` turns, as the protocol has them."""


class Reply(NamedTuple):
    """What the teacher said."""

    text: str
    finish: str
    """Why it ended: ``stop``, or ``length`` where the limit of tokens cut it off."""
    prompt_tokens: int | None
    """As the endpoint counted them; None where it does not say."""
    completion_tokens: int | None
    request_id: str


class Transient(Exception):  # noqa: N818 - an outcome of one attempt, never shown as it is
    """The attempt failed in a way that another one may not."""

    def __init__(self, reason: str, *, wait_s: float | None = None, maybe_billed: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        """Pause that the endpoint asks for [s]."""
        self.maybe_billed = maybe_billed
        """Whether the endpoint may have worked, and charged, although no answer arrived."""


class Endpoint:
    """One model behind one address; open it with ``async with``."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        self._key = _key_of(config)
        self._url = f"{config.base_url}/chat/completions"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        import aiohttp

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self.config.timeout_s, sock_connect=_CONNECT_S),
            connector=aiohttp.TCPConnector(limit=self.config.concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def attempt(self, turns: Turns) -> Reply:
        """Send one request once.

        Raises:
            Transient: Too many requests, a fault of the server, a timeout, a broken connection, or an answer
                that is not of the protocol.
            ConfigError: The endpoint refuses the request: a bad key, an unknown model, a wrong parameter.
            ResourceError: The account behind the key has nothing left.
        """
        import aiohttp

        if self._session is None:
            raise RuntimeError("the endpoint is used outside of its block")
        try:
            # A redirect would carry rows and key to an address that nobody wrote down.
            async with self._session.post(
                self._url, json=self._body(turns), allow_redirects=False
            ) as response:
                return self._understood(response, await _read(response))
        except aiohttp.ClientConnectorError as error:
            raise Transient(f"cannot connect to {self.config.host}: {error}", maybe_billed=False) from None
        except TimeoutError:
            raise Transient(f"no answer within {self.config.timeout_s:g} s", maybe_billed=True) from None
        except (aiohttp.ClientError, asyncio.IncompleteReadError, ConnectionError) as error:
            raise Transient(f"the connection broke: {self._safe(str(error))}", maybe_billed=True) from None

    def _body(self, turns: Turns) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": list(turns),
            "temperature": config.temperature,
            config.max_tokens_field: config.max_tokens,
        }
        if config.top_p is not None:
            body["top_p"] = config.top_p
        return body

    def _understood(self, response: aiohttp.ClientResponse, raw: bytes) -> Reply:
        status = response.status
        if status == 200:
            return self._reply(response, raw)
        message, code = _error_of(raw)
        told = f"{self.config.host} answered {status}" + (f": {self._safe(message)}" if message else "")
        if status == 402 or code in _OUT_OF_FUNDS:
            raise ResourceError(told, hint="add funds to the account, then type the same command again")
        if status in _TRY_AGAIN or status >= 500:
            wait = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
            raise Transient(told, wait_s=wait, maybe_billed=status == 408)
        raise self._refused(status, told, response.headers.get("Location"))

    def _refused(self, status: int, told: str, location: str | None) -> ConfigError:
        env = self.config.api_key_env
        if status in (401, 403):
            hint = (
                f"check the key in the environment variable {env}" if env
                else "name the environment variable that holds the key: --api-key-env NAME"
            )  # fmt: skip
            return ConfigError(f"{told}; the key is refused", hint=hint, param="teacher.api_key_env")
        if 300 <= status < 400:
            return ConfigError(
                f"{told} and points to {location or 'nowhere'}",
                hint="set the endpoint to the address itself",
                param="teacher.base_url",
            )
        if status == 404:
            return ConfigError(
                f"{told}; asked {self._url} for model {self.config.model!r}",
                hint="check the model's name, and that the endpoint ends with its version, as in …/v1",
                param="teacher.model",
            )
        return ConfigError(told, hint="change the setting that the endpoint names", param="teacher")

    def _reply(self, response: aiohttp.ClientResponse, raw: bytes) -> Reply:
        try:
            body = json.loads(raw)
            choice = body["choices"][0]
            text = choice["message"]["content"] or ""
            usage = body.get("usage") or {}
            request_id = body.get("id") or response.headers.get("x-request-id") or ""
            if not isinstance(text, str):
                raise TypeError("content is no text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise Transient(
                f"{self.config.host} answered 200 with something that is no chat completion",
                maybe_billed=True,
            ) from None
        if not is_unicode(text):
            text = text.encode("utf-8", "replace").decode("utf-8")
        return Reply(
            text,
            str(choice.get("finish_reason") or "stop"),
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            str(request_id)[:200],
        )

    def _safe(self, text: str) -> str:
        """Return text from outside with the key taken out, should the endpoint repeat it."""
        return text.replace(self._key, "•••") if self._key else text


def _key_of(config: TeacherConfig) -> str:
    if config.api_key_env is None:
        return ""
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {config.api_key_env} is not set, so there is no key for {config.host}",
            hint=f"export {config.api_key_env}=…",
            param="teacher.api_key_env",
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"the key in {config.api_key_env} holds characters that no HTTP header can carry",
            param="teacher.api_key_env",
        )
    return key


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, received = [], 0
    async for part in response.content.iter_chunked(65_536):
        received += len(part)
        if received > _LARGEST_ANSWER:
            raise Transient(f"the answer is over {size(_LARGEST_ANSWER)}", maybe_billed=True)
        parts.append(part)
    return b"".join(parts)


def _error_of(raw: bytes) -> tuple[str, str]:
    """Return message and code of an error's body, as far as there are any."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return _line(raw.decode("utf-8", "replace")), ""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        found = error.get("message") or error.get("detail") or ""
        return _line(str(found)), str(error.get("code") or "")
    return _line(str(error)), ""


def _line(text: str) -> str:
    return " ".join(text.split())[:_MESSAGE_CHARS]


def _count(usage: Any, key: str) -> int | None:
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


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
