"""A source of fine-tuned models that answers as OpenAI's does, from the shapes of its client's own types.

It shares no code with ours. Features that hurt are switched on per test by :class:`Trouble`. As a process::

    python -m tests.doubles.openai_source --port 8123 --jobs 500 --files 2000 --latency-ms 50
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.doubles.rolling import RollingLimits, Taken

KEY = "sk-proj-DoubleOfASourceKey0123456789abcdefXYZ"
CREATED = 1_760_000_000
Say = Callable[[Mapping[str, Any]], str | Mapping[str, Any]]
"""The body of a chat request to the answer, or to its whole message where that calls tools."""
CSV = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.5,0.9,0.6,0.8\n"


@dataclass
class Trouble:
    """What goes wrong, and how large pages are; may be changed while it serves."""

    latency_s: float = 0.0
    page: int = 100
    """Items of a page at most, whatever is requested."""
    limit_most: int | None = None
    """A listing that is asked for more than this many refuses with 400."""
    fail: dict[str, list[int]] = field(default_factory=dict)
    """Pattern of paths to statuses that the next requests to it get, one each."""
    throttle_every: int = 0
    """Each so many-th request gets 429."""
    limits: RollingLimits | None = None
    """What completions may come in any minute; those beyond get 429, with the true wait."""
    retry_after_ms: int = 20
    retry_after: str | None = None
    """``retry-after`` in place of ``retry-after-ms`` [s, or a date]."""
    base64_results: bool = False
    expired: bool = False
    """Every key is refused with 401."""
    forbidden: tuple[str, ...] = ()
    """Beginnings of paths that the key may not read: 403."""
    no_ranges: bool = False
    cut_after: dict[str, int] = field(default_factory=dict)
    """File to bytes of its content after which the connection breaks, once."""
    slow_bytes_s: float = 0.0
    """Pause after each 64 KiB of a file's content [s]."""
    logprobs: bool = True
    refusal: tuple[int, dict[str, Any], dict[str, str]] | None = None
    """Status, error object and headers that completions get."""
    logprob: float = -0.01
    """Of each token of an answer [nats]."""
    wants_limit: str | None = None
    """The only name of an answer's limit that is taken; requests with the other get 400."""
    refuse_logprobs: bool = False
    """Requests for log-probabilities get 400, as of models that think first."""


@dataclass
class OpenAISource:
    """The account: what it has, what it answers, and every request that came.

    ``jobs``, ``files``, ``models`` hold objects as they go over the wire; a listing has the newest first, as
    they stand here. Whatever a test puts there is served, however malformed.
    """

    key: str = KEY
    models: list[Any] = field(default_factory=list)
    jobs: list[Any] = field(default_factory=list)
    events: dict[str, list[Any]] = field(default_factory=dict)
    checkpoints: dict[str, list[Any]] = field(default_factory=dict)
    files: list[Any] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    stored: list[Any] = field(default_factory=list)
    """Stored completions, newest first: completions with ``messages`` (the request's) beside."""
    say: Say = lambda body: f"echo {body['messages'][-1]['content']}"
    trouble: Trouble = field(default_factory=Trouble)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each, in the order of arrival."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each, names in small letters."""
    completions: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the requests that were answered, that is: paid for."""
    url: str = ""
    """Up to and including the version, once it serves."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def seen(self) -> Counter[str]:
        """How often each method and path came, as ``GET /v1/models``."""
        return Counter(f"{method} {path}" for method, path in self.requests)

    @property
    def writes(self) -> set[str]:
        """What came beside GET and POST of completions; nothing, where a client only reads."""
        return {
            f"{method} {path}" for method, path in self.requests
            if method != "GET" and (method, path) not in {
                ("POST", "/v1/chat/completions"), ("POST", "/v1/completions")
            }
        }  # fmt: skip

    def add_file(
        self, id: str, content: bytes, purpose: str = "fine-tune", filename: str | None = None
    ) -> None:
        """Upload a file; ``delete_file`` takes it away again."""
        self.files.insert(0, {
            "id": id, "object": "file", "bytes": len(content), "created_at": CREATED, "purpose": purpose,
            "filename": filename or f"{id}.jsonl", "status": "processed", "status_details": None,
        })  # fmt: skip
        self.contents[id] = content

    def delete_file(self, id: str) -> None:
        """Delete a file as its owner would have done; jobs go on naming it."""
        self.files = [file for file in self.files if file["id"] != id]
        self.contents.pop(id, None)

    def add_fine_tune(
        self,
        name: str,
        rows: list[dict[str, Any]],
        *,
        base: str = "gpt-4o-mini-2024-07-18",
        method: str = "supervised",
        validation: list[dict[str, Any]] | None = None,
        status: str = "succeeded",
        listed: bool = True,
        shutdown_date: str | None = None,
    ) -> str:
        """Run a job to its end: files, job, events, checkpoints, result file, model. Returns its id."""
        model = f"ft:{base}:acme::{name}"
        self.add_file(f"file-train{name}", lines(rows))
        if validation is not None:
            self.add_file(f"file-valid{name}", lines(validation))
        self.add_file(f"file-result{name}", CSV.encode(), "fine-tune-results", "step_metrics.csv")
        job = f"ftjob-{name}"
        settings = {"batch_size": 4, "learning_rate_multiplier": 1.8, "n_epochs": 3}
        succeeded = status == "succeeded"
        self.jobs.insert(0, {
            "id": job, "object": "fine_tuning.job", "created_at": CREATED, "finished_at": CREATED + 600,
            "model": base, "fine_tuned_model": model if succeeded else None, "organization_id": "org-acme",
            "result_files": [f"file-result{name}"] if succeeded else [], "seed": 42, "status": status,
            "training_file": f"file-train{name}", "trained_tokens": 12_345, "estimated_finish": None,
            "validation_file": None if validation is None else f"file-valid{name}", "error": {},
            "hyperparameters": settings, "integrations": [], "metadata": None, "user_provided_suffix": None,
            "method": {"type": method, method: {"hyperparameters": settings}}, "usage_metrics": None,
            "shared_with_openai": False, "eval_id": None,
        })  # fmt: skip
        messages = [
            "The job has successfully completed", f"New fine-tuned model created: {model}",
            *(f"Step {step}/30: training loss=0.{40 - step}" for step in range(30, 0, -1)),
            "Fine-tuning job started", "Files validated, moving job to queued state",
            f"Validating training file: file-train{name}", f"Created fine-tuning job: {job}",
        ]  # fmt: skip
        self.events[job] = [
            {
                "id": f"ftevent-{name}{n}", "object": "fine_tuning.job.event", "created_at": CREATED + 60 - n,
                "level": "info", "message": message, "type": "message", "data": {},
            }
            for n, message in enumerate(messages)
        ]  # fmt: skip
        self.checkpoints[job] = [
            {
                "id": f"ftckpt_{name}{step}", "object": "fine_tuning.job.checkpoint", "created_at": CREATED,
                "fine_tuned_model_checkpoint": f"{model}:ckpt-step-{step}", "fine_tuning_job_id": job,
                "step_number": step, "metrics": {"step": step, "train_loss": 0.4, "valid_loss": 0.5},
            }
            for step in (20, 10)
        ]  # fmt: skip
        if _found(self.models, base) is None:
            self.models.append({"id": base, "object": "model", "created": CREATED, "owned_by": "system"})
        if listed and succeeded:
            self.models.append({
                "id": model, "object": "model", "created": CREATED + 600, "owned_by": "org-acme",
                "shutdown_date": shutdown_date,
            })  # fmt: skip
        return model


def lines(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as JSON Lines."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def chat_row(prompt: str, answer: str, system: str | None = None) -> dict[str, Any]:
    """Return a training row of a conversation."""
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *turns]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    source: OpenAISource

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed or had enough."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection; says HTTP/1.1, so that it stays open."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815 - http.server's names

    def _answer(self) -> None:
        source = self.server.source
        trouble = source.trouble
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        address = urlsplit(self.path)
        path, query = unquote(address.path), {k: v[-1] for k, v in parse_qs(address.query).items()}
        with source.lock:
            source.requests.append((self.command, path))
            source.headers.append({name.lower(): value for name, value in self.headers.items()})
            count = len(source.requests)
            status = next(
                (
                    found.pop(0)
                    for pattern, found in trouble.fail.items()
                    if found and re.search(pattern, path)
                ),
                None,
            )
        if trouble.latency_s:
            time.sleep(trouble.latency_s)
        if trouble.expired or self.headers.get("authorization") != f"Bearer {source.key}":
            return self._refuse(401, f"Incorrect API key provided: {source.key}.", "invalid_api_key")
        if status is None and trouble.throttle_every and count % trouble.throttle_every == 0:
            status = 429
        if status == 429:
            return self._throttle(trouble.retry_after_ms, trouble.retry_after)
        if status is not None:
            return self._refuse(status, "The server had an error", None)
        if any(path.removeprefix("/v1/").startswith(start) for start in trouble.forbidden):
            return self._refuse(403, "You have insufficient permissions for this operation.", None)
        return self._route(path.removeprefix("/v1/"), query, body)

    def _route(self, path: str, query: Mapping[str, str], body: bytes) -> None:
        source = self.server.source
        if self.command == "POST" and path == "chat/completions":
            return self._complete(json.loads(body))
        if self.command != "GET":
            return self._json({"id": path, "deleted": True, "object": "changed"})
        listings = {
            "fine_tuning/jobs": source.jobs, "files": source.files, "chat/completions": source.stored,
        }  # fmt: skip
        if path == "models":
            return self._json({"object": "list", "data": source.models})
        if path in listings:
            return self._page(listings[path], query)
        parts = path.split("/")
        if parts[:2] == ["fine_tuning", "jobs"] and len(parts) == 4:
            kind = {"events": source.events, "checkpoints": source.checkpoints}.get(parts[3], {})
            return self._page(kind.get(parts[2], []), query)
        if parts[0] == "files" and len(parts) == 3 and parts[2] == "content":
            return self._content(parts[1])
        if parts[:2] == ["chat", "completions"] and len(parts) == 4 and parts[3] == "messages":
            kept: Any = next((c for c in source.stored if c["id"] == parts[2]), {"messages": []})
            turns = [{"id": f"{parts[2]}-{n}", **turn} for n, turn in enumerate(kept["messages"])]
            return self._page(turns, query)
        found = _found({"files": source.files, "models": source.models}.get(parts[0], source.jobs), parts[-1])
        return self._json(found) if found else self._refuse(404, f"No such object: {path}", "not_found")

    def _page(self, items: list[Any], query: Mapping[str, str]) -> None:
        trouble, start = self.server.source.trouble, 0
        if trouble.limit_most and int(query.get("limit", "0")) > trouble.limit_most:
            return self._refuse(400, f"limit must be at most {trouble.limit_most}", "invalid_limit")
        if "after" in query:
            ids = [item.get("id") if isinstance(item, dict) else None for item in items]
            if query["after"] not in ids:
                return self._refuse(404, f"No such object: {query['after']}", "not_found")
            start = ids.index(query["after"]) + 1
        size = min(int(query.get("limit", "20")), trouble.page)
        page = items[start : start + size]
        return self._json({"object": "list", "data": page, "has_more": start + size < len(items)})

    def _content(self, id: str) -> None:
        source = self.server.source
        raw = source.contents.get(id)
        if raw is None:
            return self._refuse(404, f"No such File object: {id}", "not_found")
        if source.trouble.base64_results and id.startswith("file-result"):
            raw = base64.b64encode(raw)
        begin, status = 0, 200
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range") or "")
        if ranged and not source.trouble.no_ranges:
            begin, status = int(ranged[1]), 206
            if begin >= len(raw):
                return self._refuse(416, "range not satisfiable", None)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(raw) - begin)}
        if status == 206:
            headers["Content-Range"] = f"bytes {begin}-{len(raw) - 1}/{len(raw)}"
        self._head(status, headers)
        with source.lock:
            cut = source.trouble.cut_after.pop(id, None)
        for at in range(begin, len(raw), 65536):
            if cut is not None and at + 65536 - begin > cut:
                self.wfile.write(raw[at : begin + cut])
                self.close_connection = True
                return None
            self.wfile.write(raw[at : at + 65536])
            if source.trouble.slow_bytes_s:
                self.wfile.flush()
                time.sleep(source.trouble.slow_bytes_s)
        return None

    def _complete(self, body: dict[str, Any]) -> None:
        source = self.server.source
        if source.trouble.refusal is not None:
            status, error, headers = source.trouble.refusal
            return self._json({"error": error}, status, headers)
        names = {model["id"] for model in source.models if isinstance(model, dict) and "id" in model}
        points = {p["fine_tuned_model_checkpoint"] for ps in source.checkpoints.values() for p in ps}
        if body.get("model") not in names | points:
            return self._refuse(404, f"The model `{body.get('model')}` does not exist", "model_not_found")
        if body.get("logprobs") and source.trouble.refuse_logprobs:
            return self._refuse(400, "You are not allowed to request logprobs from this model", None)
        if (wanted := source.trouble.wants_limit) and (wrong := (_LIMITS - {wanted}) & body.keys()):
            return self._refuse(400, _other_limit(wrong.pop(), wanted), "unsupported_parameter")
        asked = sum(len(str(turn.get("content")).split()) for turn in body["messages"])
        limits, taken = source.trouble.limits, None
        if limits is not None:
            longest = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
            room = limits.take(asked + longest)
            if not isinstance(room, Taken):
                return self._throttle(int(room * 1000) + 1, None)
            taken = room
        said = source.say(body)
        message: dict[str, Any] = {"content": said} if isinstance(said, str) else dict(said)
        with source.lock:
            source.completions.append(body)
            number = len(source.completions)
        words = re.findall(r"\s*\S+", message.get("content") or "")
        if limits is not None and taken is not None:
            limits.settle(taken, asked + len(words))
        choice: dict[str, Any] = {
            "index": 0, "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
            "logprobs": None, "message": {"role": "assistant", "refusal": None, "content": None, **message},
        }  # fmt: skip
        if body.get("logprobs") and source.trouble.logprobs:
            about = [
                {"token": word, "logprob": source.trouble.logprob, "bytes": list(word.encode())}
                for word in words
            ]
            choice["logprobs"] = {
                "content": [{**token, "top_logprobs": [token]} for token in about], "refusal": None
            }  # fmt: skip
        usage = {"prompt_tokens": asked, "completion_tokens": len(words), "total_tokens": asked + len(words)}
        whole = {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": CREATED,
            "model": body["model"], "choices": [choice], "usage": usage, "system_fingerprint": "fp_double",
        }  # fmt: skip
        return self._stream(whole, words) if body.get("stream") else self._json(whole)

    def _stream(self, whole: dict[str, Any], words: list[str]) -> None:
        """Send an answer word by word, call by call, then why it ended, then its usage."""
        about = {**whole, "object": "chat.completion.chunk"}
        (said,) = whole["choices"]
        calls = said["message"].get("tool_calls") or ()
        deltas: list[dict[str, Any]] = [
            {"role": "assistant", "content": ""},
            *({"content": w} for w in words),
            *({"tool_calls": [{"index": n, **call}]} for n, call in enumerate(calls)),
        ]
        choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
        choices.append([{"index": 0, "delta": {}, "finish_reason": said["finish_reason"]}])
        chunks = [{**about, "choices": each, "usage": None} for each in choices]
        events = [json.dumps(chunk) for chunk in [*chunks, {**about, "choices": []}]] + ["[DONE]"]
        raw = "".join(f"data: {event}\n\n" for event in events).encode()
        self._head(200, {"Content-Type": "text/event-stream", "Content-Length": str(len(raw))}, raw)

    def _throttle(self, wait_ms: int, wait: str | None) -> None:
        """Turn a request away for so long, or as a test words it [ms]."""
        headers = {"retry-after": wait} if wait else {
            "retry-after-ms": str(wait_ms), "retry-after": str(max(1, -(-wait_ms // 1000)))
        }  # fmt: skip
        self._refuse(429, "Rate limit reached", "rate_limit_exceeded", headers)

    def _refuse(
        self, status: int, message: str, code: str | None, headers: Mapping[str, str | None] | None = None
    ) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        self._json({"error": error}, status, {k: v for k, v in (headers or {}).items() if v})

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        raw = json.dumps(value).encode()
        given = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}
        self._head(status, given, raw)

    def _head(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n" + body)  # type: ignore[attr-defined]  # one packet, not two
        self.flush_headers()


_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})


def _other_limit(given: str, wanted: str) -> str:
    if wanted == "max_tokens":  # as endpoints say that know no second name
        return f"Unrecognized request argument supplied: {given}"
    return f"Unsupported parameter: '{given}' is not supported with this model. Use '{wanted}' instead."


def _found(items: list[Any], id: str) -> Any:
    return next((item for item in items if isinstance(item, dict) and item.get("id") == id), None)


@contextmanager
def serving(source: OpenAISource, port: int = 0) -> Iterator[OpenAISource]:
    """Serve an account on a loopback port until the block ends."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.source = source
    source.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield source
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def large(jobs: int, files: int) -> OpenAISource:
    """Return an account with so many jobs and files, every tenth job failed."""
    source = OpenAISource()
    row = [chat_row("hello", "world")]
    for n in range(jobs):
        source.add_fine_tune(f"j{n:05}", row, status="failed" if n % 10 == 9 else "succeeded")
    for n in range(max(0, files - len(source.files))):
        source.add_file(f"file-other{n:05}", b"{}\n", "batch")
    return source


def _main() -> None:
    parser = argparse.ArgumentParser(description="Serve a double of OpenAI's API until killed.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    given = parser.parse_args()
    source = large(given.jobs, given.files)
    source.trouble.latency_s = given.latency_ms / 1000
    with serving(source, given.port):
        print(f"{source.url} key {source.key}", flush=True)  # noqa: T201 - what a person copies
        threading.Event().wait()


if __name__ == "__main__":
    _main()
