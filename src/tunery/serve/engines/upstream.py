"""An engine elsewhere: vLLM, llama.cpp's server, another Tunery, or any server of OpenAI's completions.

Prompts go as token ids, written by the base's own template here, so that what was evaluated is what is
served. Adapters are loaded and unloaded at run time where the upstream is vLLM.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from tunery.core.engine import Sampling
from tunery.core.errors import ConfigError, NotFoundError, ResourceError, TuneryError
from tunery.endpoint.config import check_url
from tunery.serve.engines import EngineSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine, Generation, GenerationRequest, Health, Score, TokenEvent

_DOWN_S = 5.0
"""How long an upstream that could not be reached is taken to be away [s]."""
_LONGEST_ERROR = 300
_PLAIN = Sampling()
_OPENAI_SETS = ("presence_penalty", "frequency_penalty")
_VLLM_SETS = ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos")


class UpstreamSettings(EngineSettings):
    """Where the upstream is and what it understands."""

    kind: Literal["upstream"] = "upstream"
    """This engine."""

    base_url: str
    """Address up to and including the version, such as ``http://127.0.0.1:8000/v1``."""

    model: str | None = None
    """Name of the base there; by default the first that it lists."""

    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key; left out, none is sent."""

    dialect: Literal["vllm", "openai"] = "vllm"
    """``vllm``: adapters are loaded at run time, tokens come with their ids, prompts are scored by
    ``prompt_logprobs``. ``openai``: completions of the base alone, scored by ``echo``."""

    parallel: int = Field(default=64, ge=1, le=1024)
    """Requests in flight at once; more wait here."""

    connect_s: float = Field(default=5.0, gt=0)
    """Longest wait for a connection [s]."""

    first_token_s: float = Field(default=60.0, gt=0)
    """Longest wait for the next piece of an answer [s]."""

    attempts: int = Field(default=3, ge=1)
    """Tries of a request of which no byte has come back."""

    context_window: int | None = Field(default=None, ge=1)
    """Tokens of a prompt and its completion; by default what the upstream says, else the base's own."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, url: str) -> str:
        return check_url(url)

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on, as far as it can be known here."""
        return self.model_dump(mode="json", include={"kind", "base_url", "model"})

    @property
    def slots(self) -> int:
        """Requests in flight at once [count]."""
        return self.parallel

    @property
    def window(self) -> int | None:
        """Longest prompt with its answer [tokens]."""
        return self.context_window


SETTINGS = UpstreamSettings


def open(base: Path, settings: UpstreamSettings) -> Engine:
    """Connect; raises as :class:`UpstreamEngine`."""
    return UpstreamEngine(base, settings)


class UpstreamEngine:
    """Completions of a server elsewhere; every request has a thread while it is in flight.

    Args:
        base: Folder of the base that the upstream serves: its tokenizer writes prompts here.
        settings: Where it is.

    Raises:
        ConfigError: The key is not in the environment, or the upstream does not list the model.
        ResourceError: It cannot be reached.
    """

    def __init__(self, base: Path, settings: UpstreamSettings) -> None:
        import httpx2

        from tunery.endpoint.client import key_from
        from tunery.model.tokenizer import load_tokenizer

        self._settings = settings
        self._tokenizer = load_tokenizer(str(base))
        key = key_from(settings.api_key_env, settings.base_url)
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(settings.first_token_s, connect=settings.connect_s),
            limits=httpx2.Limits(max_connections=settings.parallel + 8),
            trust_env=False,
            follow_redirects=False,
        )
        self._threads = ThreadPoolExecutor(settings.parallel, "upstream")
        self._lock = threading.Lock()
        self._loaded: dict[str, str] = {}
        self._closed = False
        self._down: tuple[float, str] | None = None
        listed = self._models()
        self._model = settings.model or next(iter(listed), "")
        if self._model not in listed:
            self.close()
            raise NotFoundError.of("model", self._model, listed, hint="set engine.model to one it serves")
        own = self._tokenizer.max_tokens
        self._window = settings.context_window or min(own, listed[self._model] or own)

    @property
    def context_window(self) -> int:
        """Tokens that a prompt and its completion may have together [count]."""
        return self._window

    def healthy(self) -> Health:
        """Return whether the upstream answered last, or has not been asked for some seconds."""
        from tunery.core.engine import Health

        down = self._down
        if self._closed:
            return Health("the engine is closed", stopped=True)
        if down is not None and time.monotonic() - down[0] < _DOWN_S:
            return Health(down[1])
        return Health()

    def load_adapter(self, name: str, path: str) -> None:
        """Have the upstream load a PEFT folder that it can read under the same path.

        Raises:
            ConfigError: It refuses the adapter, in its own words, or takes none.
        """
        with self._lock:
            if self._loaded.get(name) == path:
                return
            if self._settings.dialect != "vllm":
                raise ConfigError(
                    f"{self._settings.base_url} takes no adapters; it answers as {self._model} alone",
                    hint="engine.dialect=vllm, or export the version merged and serve it there",
                )
            self._post_json("load_lora_adapter", {"lora_name": name, "lora_path": path})
            self._loaded[name] = path

    def unload_adapter(self, name: str) -> None:
        """Have it forget an adapter; unknown names are ignored."""
        with self._lock:
            if self._loaded.pop(name, None) is not None:
                self._post_json("unload_lora_adapter", {"lora_name": name})

    def adapters(self) -> tuple[str, ...]:
        """Return the names loaded from here, sorted."""
        return tuple(sorted(self._loaded))

    def submit(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Future[Generation]:
        """Send one request; cancelling the future ends it before it is sent, or closes its stream.

        Raises:
            NotFoundError: The adapter is not loaded; never answered by the base instead.
            ConfigError: The prompt leaves no room in the context window, or the upstream lacks what is asked.
            ResourceError: The engine is closed.
        """
        return self.prepare(request, on_token)()

    def prepare(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Callable[[], Future[Generation]]:
        """Check one request and return what sends it; raises as :meth:`submit`."""
        body = self._body(request)

        def send() -> Future[Generation]:
            if self._closed:
                raise ResourceError("the engine is closed")
            future: Future[Generation] = Future()
            self._threads.submit(self._run, future, body, request, on_token)
            return future

        return send

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Complete many prompts, so many at once as may be in flight, and return them in order."""
        return [future.result() for future in [self.submit(request) for request in requests]]

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        """Return the likelihood of each (prompt ids, completion ids) pair, by the upstream's word."""
        name = self._name_of(adapter)
        return list(self._threads.map(lambda row: self._score(row[0], row[1], name), rows))

    def close(self) -> None:
        """Send nothing more; what is in flight ends."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _models(self) -> dict[str, int | None]:
        """Return the models listed there, with their windows where they are told."""
        try:
            answer = self._http.get(f"{self._settings.base_url}/models")
        except Exception as error:
            self.close()
            raise self._unreachable(error) from None
        if answer.status_code != 200:
            self.close()
            raise self._refused(answer.status_code, answer.text)
        data = answer.json().get("data", [])
        return {str(model["id"]): model.get("max_model_len") for model in data}

    def _name_of(self, adapter: str | None) -> str:
        if adapter is None:
            return self._model
        if adapter not in self._loaded:
            raise NotFoundError.of("adapter", adapter, self._loaded, hint="tunery registry ls")
        return adapter

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        sampling, room = request.sampling, self._window - len(request.prompt)
        if not request.prompt or room < min(1, sampling.max_tokens):
            raise ConfigError(
                f"a prompt of {len(request.prompt):,} tokens leaves no room for an answer in the upstream's "
                f"window of {self._window:,}",
                param="messages",
            )
        if request.prompt_logprobs is not None or (request.constraint and request.constraint.calls):
            raise ConfigError(
                "the upstream engine passes on neither likelihoods of the prompt nor calls of functions"
            )
        body: dict[str, Any] = {
            "model": self._name_of(request.adapter),
            "prompt": list(request.prompt),
            "max_tokens": min(sampling.max_tokens, room),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {} if sampling.seed is None else {"seed": sampling.seed}
        body |= {"stop": list(sampling.stop)} if sampling.stop else {}
        body |= {} if sampling.logprobs is None else {"logprobs": sampling.logprobs}
        body |= self._adjusted(sampling)
        body |= {"return_token_ids": True} if self._settings.dialect == "vllm" else {}
        if (form := request.constraint) is not None:
            kinds = {
                "choice": form.labels,
                "json": form.json_schema,
                "regex": form.regex,
                "grammar": form.grammar,
            }
            body["structured_outputs"] = {name: given for name, given in kinds.items() if given is not None}
        return body

    def _adjusted(self, sampling: Sampling) -> dict[str, Any]:
        """Return what is set of how tokens are chosen, in the upstream's words.

        Raises:
            ConfigError: It is vLLM's, and the upstream speaks OpenAI's words alone.
        """
        given: dict[str, Any] = {
            name: value
            for name in _OPENAI_SETS
            if (value := getattr(sampling, name)) != getattr(_PLAIN, name)
        }
        if sampling.logit_bias:
            given["logit_bias"] = {str(token): value for token, value in sampling.logit_bias}
        more = {n: v for n in _VLLM_SETS if (v := getattr(sampling, n)) != getattr(_PLAIN, n)}
        if more and self._settings.dialect != "vllm":
            raise ConfigError(
                f"the upstream {self._settings.base_url} does not take {', '.join(more)}",
                hint="engine.dialect=vllm where it does",
                param=next(iter(more)),
            )
        return given | {n: list(v) if isinstance(v, tuple) else v for n, v in more.items()}

    def _run(
        self,
        future: Future[Generation],
        body: Mapping[str, Any],
        request: GenerationRequest,
        on_token: Callable[[TokenEvent], None] | None,
    ) -> None:
        if future.cancelled():
            return
        # Never set running: a future that runs can no longer be cancelled, and its client may leave.
        try:
            answer = self._answered(body, len(request.prompt), on_token, future)
            with suppress(InvalidStateError):
                future.set_result(answer)
        except BaseException as error:
            with suppress(InvalidStateError):
                future.set_exception(error)

    def _answered(
        self,
        body: Mapping[str, Any],
        prompt: int,
        on_token: Callable[[TokenEvent], None] | None,
        future: Future[Generation],
    ) -> Generation:
        from tunery.core.engine import Generation

        started = time.monotonic()
        pieces: list[str] = []
        ids: list[int] = []
        events: list[TokenEvent] = []
        usage: Mapping[str, Any] = {}
        first, reason = None, "stop"
        for chunk in self._chunks(body, future):
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", ()):
                first = first or time.monotonic()
                text = choice.get("text") or ""
                pieces.append(text)
                ids += choice.get("token_ids") or []
                reason = choice.get("finish_reason") or reason
                found = _events(choice, text)
                events += found
                for event in found if on_token else ():
                    on_token(event)  # type: ignore[misc]  # there is one where there are events to tell it
        text, ended = "".join(pieces), time.monotonic()
        stops = self._tokenizer.stop_ids
        answer = tuple(i for i in ids if i not in stops) if ids else tuple(self._tokenizer.encode(text))
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Generation(
            text=text,
            token_ids=answer,
            finish_reason="length" if reason == "length" else "stop",
            prompt_tokens=prompt,
            cached_tokens=int(cached),
            ttft_ms=((first or ended) - started) * 1000,
            latency_ms=(ended - started) * 1000,
            tokens=tuple(events) if body.get("logprobs") is not None else (),
        )

    def _chunks(self, body: Mapping[str, Any], future: Future[Generation]) -> Iterator[dict[str, Any]]:
        """Yield the pieces of a streamed answer; tries again while not one byte has come.

        Where the future is cancelled meanwhile, the connection is shut down, whatever it waits for: the
        upstream sees its client leave.

        Raises:
            TuneryError: The upstream refuses, or every attempt failed, or the stream broke off.
        """
        import httpx2

        url = f"{self._settings.base_url}/completions"
        for attempt in range(1, self._settings.attempts + 1):
            begun = False
            try:
                with self._http.stream("POST", url, json=body) as answer:
                    hang_up = partial(_hang_up, answer.extensions.get("network_stream"))
                    future.add_done_callback(hang_up)
                    if answer.status_code != 200:
                        raise self._refused(answer.status_code, answer.read().decode("utf-8", "replace"))
                    for line in answer.iter_lines():
                        begun = True
                        if line.startswith("data:") and (data := line[5:].strip()) != "[DONE]":
                            yield _piece(data)
                self._down = None
                return
            except httpx2.HTTPError as error:
                if future.cancelled():
                    raise CancelledError from None
                if begun or attempt == self._settings.attempts:
                    raise self._unreachable(error) from None
            except ResourceError:
                if attempt == self._settings.attempts:
                    raise
            time.sleep(min(2.0, 0.1 * 2**attempt))

    def _score(self, prompt: Sequence[int], completion: Sequence[int], name: str) -> Score:
        from tunery.core.engine import Score

        ids = [*prompt, *completion]
        body: dict[str, Any] = {"model": name, "prompt": ids, "temperature": 0}
        if self._settings.dialect == "vllm":
            found = self._post_json("completions", {**body, "max_tokens": 1, "prompt_logprobs": 0})
            each = found["choices"][0]["prompt_logprobs"]
            likely = [each[place][str(ids[place])]["logprob"] for place in range(len(prompt), len(ids))]
        else:
            echoed = {**body, "max_tokens": 0, "echo": True, "logprobs": 0}
            columns = self._post_json("completions", echoed)["choices"][0]["logprobs"]
            likely = columns["token_logprobs"][len(prompt) : len(ids)]
        return Score(float(sum(likely)), len(completion))

    def _post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        import httpx2

        try:
            answer = self._http.post(f"{self._settings.base_url}/{path}", json=body)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.status_code != 200:
            raise self._refused(answer.status_code, answer.text)
        return (
            answer.json() if answer.headers.get("content-type", "").startswith("application/json") else None
        )

    def _unreachable(self, error: Exception) -> ResourceError:
        reason = f"{self._settings.base_url} does not answer ({type(error).__name__}: {error})"
        self._down = (time.monotonic(), reason)
        return ResourceError(reason, hint="start it, or set engine.base_url")

    def _refused(self, status: int, text: str) -> TuneryError:
        """Return what a refusal means: the caller's mistake, or an upstream that cannot now."""
        reason = f"{self._settings.base_url} answered {status}: {_message_in(text)}"
        if status in (408, 425, 429) or status >= 500:
            self._down = (time.monotonic(), reason)
            return ResourceError(reason, hint="try again shortly")
        return ConfigError(reason)


def _hang_up(stream: Any, future: Future[Generation]) -> None:
    """End a connection whose answer nobody waits for; one that has ended is left as it is."""
    if stream is not None and future.cancelled():
        with suppress(OSError, AttributeError):
            stream.get_extra_info("socket").shutdown(SHUT_RDWR)


def _piece(data: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        raise ResourceError(f"the upstream sent what is no JSON: {data[:80]!r}") from None
    if isinstance(found, dict) and "error" in found:
        raise ResourceError(f"the upstream broke off: {_message_in(data)}")
    return found if isinstance(found, dict) else {}


def _message_in(text: str) -> str:
    try:
        found = json.loads(text)
        inner = found.get("error", found) if isinstance(found, dict) else found
        text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except ValueError:
        pass
    return " ".join(text.split())[:_LONGEST_ERROR]


def _events(choice: Mapping[str, Any], text: str) -> list[TokenEvent]:
    """Return a chunk's tokens, or all of its text as one where tokens are not told."""
    from tunery.core.engine import TokenEvent

    columns = choice.get("logprobs") or {}
    ids = choice.get("token_ids") or []
    tokens = columns.get("tokens") or []
    if not tokens:
        return [TokenEvent(ids[-1] if ids else -1, text, None, ())] if text else []
    likely = columns.get("token_logprobs") or [None] * len(tokens)
    texts = [text, *[""] * (len(tokens) - 1)]  # text that became final comes with the first
    places = ids if len(ids) == len(tokens) else [-1] * len(tokens)
    return [
        TokenEvent(id_, shown, logprob, (), token, token.encode())
        for id_, shown, logprob, token in zip(places, texts, likely, tokens, strict=True)
    ]
