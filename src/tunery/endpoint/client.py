"""One attempt at one request, and what its answer means."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tunery.core.errors import ConfigError, ResourceError, TuneryError
from tunery.core.figures import size
from tunery.endpoint.config import EndpointConfig, MaxTokensField
from tunery.endpoint.connection import CONNECT_S, TRY_AGAIN, Transient, certificates, pause_of, strip
from tunery.endpoint.journal import PaidAnswer
from tunery.endpoint.keys import named_key
from tunery.text.normalise import is_unicode

if TYPE_CHECKING:
    import httpx2
    import openai
    from openai import APIStatusError, AsyncAPIResponse

_LARGEST_ANSWER = 8 * 1024 * 1024
_MESSAGE_CHARS = 300
_FRAME_TOKENS = 64
"""What a chat template may add to the turns of a request [tokens]; bytes outnumber tokens by far anyhow."""
_TOO_LONG = re.compile("context.?(length|window)", re.IGNORECASE)
"""In the code or the words of a refusal: this request does not fit the model, others may."""
_OTHER_NAME: Mapping[MaxTokensField, MaxTokensField] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_UNKNOWN_FIELD = re.compile(r"unsupported|unrecogni[sz]ed|unknown|unexpected|not (supported|permitted)|extra")
"""In the words of a refusal that names a field: not its value is wrong, the field is."""
_OUT_OF_FUNDS = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
Turns = Sequence[Mapping[str, Any]]
"""``role``/``content`` turns, as the protocol has them: with parts, tool calls and their results, too."""


class Line(NamedTuple):
    """A connection that somebody else opened and closes, with a key that is not in any settings."""

    client: openai.AsyncOpenAI
    safe: Callable[[str], str]
    """Takes the key out of text from outside."""


class Endpoint:
    """One model behind one address; ``async with endpoint.client`` closes its connections.

    The client tries nothing again by itself: every attempt has to stand in the journal and in the budget.

    Args:
        config: Where it is, and how it is to answer.
        now: The clock.
        line: What it is reached by; None opens a connection with the key that the settings name.
    """

    def __init__(self, config: EndpointConfig, now: Callable[[], datetime], line: Line | None = None) -> None:
        import httpx2
        import openai

        self.config = config
        self.max_tokens_field = config.max_tokens_field
        """As the settings have it, or the other name where the endpoint has refused that one."""
        self._now = now
        if line is not None:
            self.client, self._safe = line
            return
        self._key = key_of(config)
        self._safe = self._without_key
        http = openai.DefaultAsyncHttpxClient(
            # A redirect would carry rows and key to an address that nobody wrote down, as would a proxy.
            follow_redirects=False,
            trust_env=False,
            proxy=config.proxy,
            # With the environment its SSL_CERT_FILE and SSL_CERT_DIR would go too: teachers of a private CA.
            verify=certificates(),
            timeout=httpx2.Timeout(None, connect=CONNECT_S),
            event_hooks={"request": [self._strip]},
        )
        # A key must be given; the one that is sent is set by the hook.
        self.client = openai.AsyncOpenAI(
            api_key="unused", base_url=config.base_url, max_retries=0, http_client=http
        )

    async def _strip(self, request: httpx2.Request) -> None:
        strip(request, self._key, self.config.account_headers)

    async def attempt(self, turns: Turns, fields: Mapping[str, Any] = MappingProxyType({})) -> PaidAnswer:
        """Send one request once; what the endpoint does not count stands at its ceiling.

        One that is refused for the name of its limit, which costs nothing, goes out with the other name.

        Args:
            turns: The prompt.
            fields: Further fields of this request, such as its ``tools``.

        Raises:
            Transient: Too many requests, a fault of the server, a timeout, a broken connection, or an answer
                that is not of the protocol.
            ConfigError: The endpoint refuses the request: a bad key, an unknown model, a wrong parameter.
            ResourceError: The account behind the key has nothing left.
        """
        name = self.max_tokens_field
        try:
            return await self._sent(turns, fields, name)
        except ConfigError as refusal:
            if refusal.param != name:
                raise
            answer = await self._sent(turns, fields, _OTHER_NAME[name])
            self.max_tokens_field = _OTHER_NAME[name]
            return answer

    async def _sent(self, turns: Turns, fields: Mapping[str, Any], limit: MaxTokensField) -> PaidAnswer:
        import httpx2
        import openai

        config = self.config
        request = self.client.chat.completions.with_streaming_response.create(
            model=config.model,
            messages=cast(Any, list(turns)),
            temperature=config.temperature,
            top_p=openai.omit if config.top_p is None else config.top_p,
            extra_body={**config.extra, **fields, limit: config.max_tokens},
        )
        try:
            async with asyncio.timeout(config.timeout_s), request as response:
                raw = await _read(response)
                if response.status_code != 200 and not raw:
                    reason = f"{config.host} answered {response.status_code} without a completion"
                    raise self._refusal(response.status_code, reason, None)
                return self._priced(raw, response, turns)
        except openai.APIStatusError as error:
            raise self._status_error(error, limit) from None
        except (openai.APITimeoutError, TimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise self._unreachable(error) from None
            raise Transient(f"no answer within {config.timeout_s:g} s", maybe_billed=True) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            if isinstance(error.__cause__, httpx2.ConnectError):
                raise self._unreachable(error) from None
            reason = self._safe(str(error.__cause__ or error))
            raise Transient(f"the connection broke: {reason}", maybe_billed=True) from None

    def _unreachable(self, error: Exception) -> Transient:
        return Transient(f"cannot connect to {self.config.host}: {error.__cause__}", maybe_billed=False)

    def _status_error(self, error: APIStatusError, limit: MaxTokensField) -> Transient | TuneryError:
        status, headers = error.status_code, error.response.headers
        message = self._safe(_message_of(error))
        reason = f"{self.config.host} answered {status}" + (f": {message}" if message else "")
        if status == 402 or error.code in _OUT_OF_FUNDS:
            return ResourceError(reason, hint="add funds to the account, then type the same command again")
        if status in TRY_AGAIN or status >= 500:
            return Transient(reason, wait_s=pause_of(headers), maybe_billed=status == 408)
        if status in (400, 413) and _TOO_LONG.search(f"{error.code} {message}"):
            return Transient(reason, maybe_billed=False, final=True)
        if status in (400, 422) and _refuses_field(limit, error.param, message):
            hint = f"set max_tokens_field to {_OTHER_NAME[limit]}"
            return ConfigError(reason, hint=hint, param=limit)
        return self._refusal(status, reason, headers.get("Location"))

    def _refusal(self, status: int, reason: str, location: str | None) -> ConfigError:
        env, file = self.config.api_key_env, self.config.api_key_file
        if status in (401, 403):
            place = f"the environment variable {env}" if env else file
            hint = (
                f"check the key in {place}" if place
                else "name the environment variable that holds the key: --api-key-env NAME"
            )  # fmt: skip
            return ConfigError(f"{reason}; the key is refused", hint=hint, param="api_key_env")
        if 300 <= status < 400:
            return ConfigError(
                f"{reason} and points to {location or 'nowhere'}",
                hint="set the endpoint to the address itself",
                param="base_url",
            )
        if status == 404:
            return ConfigError(
                f"{reason}; requested model {self.config.model!r} at {self.config.base_url}/chat/completions",
                hint="check the model's name, and that the endpoint ends with its version, as in …/v1",
                param="model",
            )
        return ConfigError(reason, hint="change the setting that the endpoint names")

    def _priced(self, raw: bytes, response: AsyncAPIResponse[Any], turns: Turns) -> PaidAnswer:
        try:
            body = json.loads(raw)
            choice = body["choices"][0]
            message = choice["message"]
            text = message.get("content") or message.get("refusal") or ""
            tool_calls = message.get("tool_calls") or None
            logprobs = (choice.get("logprobs") or {}).get("content") or None
            usage = body.get("usage") or {}
            if not isinstance(text, str):
                raise TypeError("content is no text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            reason = f"{self.config.host} answered {response.status_code} with what is no chat completion"
            raise Transient(reason, maybe_billed=True) from None
        if not is_unicode(text):
            text = text.encode("utf-8", "replace").decode("utf-8")
        prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        metered = prompt is not None and completion is not None
        prompt = prompt_ceiling(turns) if prompt is None else prompt
        completion = self.config.max_tokens if completion is None else completion
        return PaidAnswer(
            text=text,
            finish=str(choice.get("finish_reason") or "stop"),
            request_id=str(body.get("id") or response.headers.get("x-request-id") or "")[:200],
            endpoint=self.config.host,
            at=self._now().isoformat(timespec="seconds"),
            prompt_tokens=prompt,
            completion_tokens=completion,
            metered=metered,
            usd=self.config.usd(prompt, completion),
            tool_calls=tool_calls,
            logprobs=logprobs,
        )

    def _without_key(self, text: str) -> str:
        """Return text from outside with the key taken out, should the endpoint repeat it."""
        return text.replace(self._key, "•••") if self._key else text


def key_of(config: EndpointConfig) -> str:
    """Return the key that the settings of an endpoint name, empty for none; raises as ``named_key``."""
    return named_key(config.api_key_env, config.api_key_file, config.host)


async def _read(response: AsyncAPIResponse[Any]) -> bytes:
    parts, received = [], 0
    async for part in response.iter_bytes():
        received += len(part)
        if received > _LARGEST_ANSWER:
            raise Transient(f"the answer is over {size(_LARGEST_ANSWER)}", maybe_billed=True)
        parts.append(part)
    return b"".join(parts)


def _message_of(error: APIStatusError) -> str:
    """Return the words of an error's body on one line, as far as there are any."""
    body = error.body
    found = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    return " ".join(str(found or "").split())[:_MESSAGE_CHARS]


def _refuses_field(field: str, param: str | None, message: str) -> bool:
    """Tell whether a refusal is of a field as such, not of its value.

    >>> _refuses_field("max_tokens", "max_tokens", "Unsupported parameter: 'max_tokens'. Use ... instead.")
    True
    >>> _refuses_field("max_tokens", "max_tokens", "max_tokens is too large: 9999")
    False
    """
    named = param == field or re.search(rf"\b{field}\b", message)
    return bool(named and _UNKNOWN_FIELD.search(message.lower()))


def prompt_ceiling(turns: Turns) -> int:
    """Return a number of tokens that no usual tokenizer exceeds: one a byte, and some for the template.

    >>> prompt_ceiling([{"role": "user", "content": "née"}])
    68
    """
    return _FRAME_TOKENS + sum(_bytes(turn) for turn in turns)


def _bytes(turn: Mapping[str, Any]) -> int:
    plain = turn.keys() <= {"role", "content"} and isinstance(turn.get("content"), str)
    text = turn["content"] if plain else json.dumps(turn, ensure_ascii=False)
    return len(text.encode("utf-8", "replace"))


def _count(usage: Any, key: str) -> int | None:
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
