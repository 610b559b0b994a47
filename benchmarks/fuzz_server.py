"""Send thousands of broken requests to a server of its own; count answers of 500 and what is left behind.

    python benchmarks/fuzz_server.py BASE [--requests 5000] [--seed 0]

Every route that ``/openapi.json`` names is asked with mutated bodies, parameters and headers, with and
without a key, and over raw sockets with what is no HTTP. Prints statuses, each request that was answered by
500 or by something that is not in OpenAI's shape, and threads, open files and memory before and after; ends
with 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import psutil

HUGE = "9" * 5_000
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**400, 1.5, -0.0, 1e308,
    "", " ", "\x00", "\ud800", "\U0001f600", "a" * 70_000, HUGE, "../../etc/passwd", "%00", "null", "{{7*7}}",
    "<|im_end|>", "ft:a:b:c:d", "bot@", "@", "bot@-1", "bot@9999999999999999999999", "bot@champion",
    [], {}, [[]], [{}], {"": None}, [None], [1, "a"], [2**32], [-1], [[1], [2**70]], {"a": {"b": {"c": []}}},
)  # fmt: skip
SCHEMAS: tuple[Any, ...] = (
    {"type": "object", "properties": {"\ud800": {}}},
    {"type": "number", "minimum": 10**400},
    {"$ref": "#"},
    {"$ref": "http://127.0.0.1:1/x"},
    {"anyOf": [{"$ref": "#/anyOf/0"}]},
    {"pattern": "(a+)+$"},
    {"pattern": "("},
    {"enum": []},
    {"type": "array", "items": {"type": "array"}, "minItems": 10**9},
    {"type": "string", "maxLength": 10**12},
    True,
    False,
)
RAW: tuple[bytes, ...] = (
    b"",
    b"\r\n" * 100,
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://evil/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /%zz%00%ff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    b"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    bytes(range(256)) * 40,
)


class Server(NamedTuple):
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    key: str
    base: str


class Held(NamedTuple):
    """What a server holds."""

    threads: int
    files: int
    rss_mb: float
    in_flight: float


def start(home: Path, base: str) -> Server:
    """Start a server and wait for it."""
    command = [sys.executable, "-m", "tunery", "--home", str(home), "serve", "--port", "0", "--base", base]
    settings = ["run_jobs=false", "connections.head_timeout_s=1", "connections.body_timeout_s=2"]
    process = subprocess.Popen(
        [*command, *settings, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    key = process.stderr.readline().strip().rpartition(" ")[2]
    said = ""
    while not said.rstrip().endswith("}"):
        said += process.stdout.readline()
    port = int(json.loads(said)["url"].removesuffix("/v1").rpartition(":")[2])
    server = Server(process, port, key, "")
    models = json.loads(ask(server, "GET", "/v1/models", None, {})[1])
    return server._replace(base=models["data"][0]["id"])


def ask(
    server: Server, method: str, path: str, body: bytes | None, headers: dict[str, str], *, key: bool = True
) -> tuple[int, bytes]:
    """Send one request and return status and body."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        given = {"Content-Type": "application/json", **headers}
        if key:
            given["Authorization"] = f"Bearer {server.key}"
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def held(server: Server) -> Held:
    """Return what the server holds now."""
    process = psutil.Process(server.process.pid)
    text = ask(server, "GET", "/metrics", None, {})[1].decode()
    found = re.search(r"^tunery_requests_in_flight (\S+)$", text, re.MULTILINE)
    return Held(
        process.num_threads(),
        process.num_fds(),
        process.memory_info().rss / 1e6,
        float(found[1]) if found else -1.0,
    )


def good_bodies(server: Server) -> dict[str, dict[str, Any]]:
    """Return a body that is right, for each route that takes one."""
    turns = [{"role": "user", "content": "hi"}]
    sampling = {
        "max_tokens": 2,
        "temperature": 1,
        "top_p": 0.9,
        "n": 1,
        "seed": 3,
        "stop": ["x"],
        "user": "u",
    }
    shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    return {
        "/v1/chat/completions": {
            "model": server.base,
            "messages": turns,
            "logprobs": True,
            "top_logprobs": 2,
            "stream": False,
            "stream_options": {"include_usage": True},
            "response_format": shape,
            "tools": tools,
            "tool_choice": "auto",
            "metadata": {"a": "b"},
            "tunery": {"labels": ["a", "b"]},
            "store": True,
            **sampling,
        },
        "/v1/completions": {
            "model": server.base,
            "prompt": "a",
            "logprobs": 2,
            "echo": False,
            "stream": False,
            "guided_choice": ["a", "b"],
            "metadata": {"a": "b"},
            **sampling,
        },
        "/v1/fine_tuning/jobs": {
            "model": server.base,
            "training_file": "file-x",
            "validation_file": "file-y",
            "suffix": "s",
            "seed": 1,
            "hyperparameters": {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1},
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
            "metadata": {"a": "b"},
            "tunery": {"train": {"rank": 2}, "evaluate": {}, "data": {}, "gate": {"rules": []}},
        },
        "/v1/feedback": {"request_id": "chatcmpl-x", "rating": 1, "correction": "c", "rejected": "r"},
        "/v1/rollouts": {"model": "bot@1", "percent": 5},
        "/v1/rollouts/promote": {"model": "bot@1", "reason": "r"},
        "/v1/rollouts/rollback": {"model": "bot", "reason": "r"},
        "/v1/chat/completions/{completion_id}": {"metadata": {"rating": "1"}},
    }


def mutated(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with something wrong somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        changed = dict(value)
        name = rng.choice([*changed])
        how = rng.random()
        if how < 0.15:
            del changed[name]
        elif how < 0.25:
            changed[str(rng.choice(ODD))[:50]] = rng.choice(ODD)
        elif name in ("schema", "parameters") and how < 0.8:
            changed[name] = rng.choice(SCHEMAS)
        else:
            changed[name] = mutated(changed[name], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.6:
        return [mutated(v, rng) for v in value] * rng.choice((1, 1, 1, 70))
    return rng.choice(ODD)


def body_of(good: dict[str, Any] | None, rng: random.Random) -> bytes | None:
    """Return the bytes of a body."""
    how = rng.random()
    if good is None or how < 0.05:
        return rng.choice((None, b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"a":' * 3_000, b"[" * 50_000))
    value: Any = {k: v for k, v in good.items() if rng.random() < 0.6 or k in ("model", "messages", "prompt")}
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        value = mutated(value, rng)
    text = json.dumps(value)
    if how < 0.12:
        cut = rng.randrange(len(text))
        text = text[:cut] + rng.choice(("", "}", "1e999", HUGE, "\\ud800", "\x00", "NaN")) + text[cut + 1 :]
    return text.encode("utf-8", "surrogatepass")


def one_request(
    server: Server, operation: tuple[str, str], bodies: dict[str, dict[str, Any]], rng: random.Random
) -> tuple[str, int, bytes]:
    """Send one request that is wrong somewhere; return what was asked, the status and the answer."""
    path, method = operation
    if rng.random() < 0.05:
        method = rng.choice(("PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO"))
    where = re.sub(r"\{\w+\}", lambda _: _quoted(rng), path)
    if rng.random() < 0.4:
        name = rng.choice(("limit", "after", "order", "purpose", "model", "status", "metadata[a]", "x"))
        where += f"?{name}={_quoted(rng)}"
    headers: dict[str, str] = {}
    if rng.random() < 0.3:
        name = rng.choice(
            (
                "x-stainless-retry-count",
                "content-type",
                "range",
                "accept",
                "accept-encoding",
                "origin",
                "cookie",
            )
        )
        headers[name] = rng.choice(
            (HUGE, "", "-1", "a/b; charset=zip", "bytes=0-", "multipart/form-data", "*/*")
        )
    body = body_of(bodies.get(path), rng) if method in ("POST", "PUT", "PATCH") else None
    if path == "/v1/files" and method == "POST" and rng.random() < 0.8:
        headers["content-type"] = rng.choice(("", "multipart/form-data; boundary=x", "multipart/form-data"))
        headers["content-type"] += rng.choice(("", "; charset=zip", "; charset=idna", "; charset=\xe9"))
        body = _form(rng)
    asked = f"{method} {where[:300]} {headers!r:.200} {(body or b'')[:400]!r}"
    try:
        status, answer = ask(server, method, where, body, headers, key=rng.random() < 0.95)
    except (HTTPException, OSError) as error:
        # A body over the limit is refused while it is being sent, and who goes on sending is cut off.
        refused = isinstance(error, ConnectionError) and len(body or b"") > 16 * 2**20
        return asked, 413 if refused else 0, b"" if refused else repr(error).encode()
    return asked, status, b"" if method == "HEAD" else answer


def _quoted(rng: random.Random) -> str:
    text = str(rng.choice(ODD)).encode("utf-8", "surrogatepass")[:6_000]
    return "".join(chr(b) if chr(b).isalnum() and b < 128 else f"%{b:02X}" for b in text) or "x"


def _form(rng: random.Random) -> bytes:
    name = rng.choice((b"file", b"", b'f"', b"\xff", b"purpose"))
    row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    content = rng.choice(
        (b"", row * 12, b"\x1f\x8b\x08\x00bad", b"\x28\xb5\x2f\xfdbad", b"\x00" * 100, b"[" * 9_000)
    )
    return (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
        + rng.choice((b"fine-tune", b"", b"\xff\xfe", b"vision"))
        + b'\r\n--x\r\nContent-Disposition: form-data; name="'
        + name
        + b'"; filename="'
        + rng.choice((b"a.jsonl", b"", b"../../x", b"\x00", b"\xff"))
        + b'"\r\n\r\n'
        + content
        + rng.choice((b"\r\n--x--\r\n", b"", b"\r\n--x"))
    )


def raw(server: Server, content: bytes) -> bytes:
    """Send bytes as they are and return what comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=8) as client:
        try:
            client.sendall(content)
            return client.recv(65_536)
        except OSError:
            return b""


def is_refusal(answer: bytes) -> bool:
    """Tell whether an answer has the shape of OpenAI's errors."""
    try:
        error = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return set(error) == {"message", "type", "param", "code"}


def main() -> int:
    """Fuzz and report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    wrong: list[str] = []
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as home:
        os.environ["TUNERY_DATABASE_URL"] = ""
        server = start(Path(home), options.base)
        try:
            document = json.loads(ask(server, "GET", "/openapi.json", None, {})[1])
            operations = [(p, m.upper()) for p, methods in document["paths"].items() for m in methods]
            bodies = good_bodies(server)
            for _ in range(60):  # warm: pools are full, the engine is open
                one_request(server, ("/v1/completions", "POST"), bodies, rng)
            before = held(server)
            for number in range(options.requests):
                asked, status, answer = one_request(server, rng.choice(operations), bodies, rng)
                statuses[status] += 1
                shaped = status < 400 or not answer or is_refusal(answer)
                if status in (0, 500) or not shaped:
                    wrong.append(f"{status} {asked} -> {answer[:300]!r}")
                if number % 25 == 0:
                    said = raw(server, rng.choice(RAW))
                    statuses[int(said.split()[1]) if said else -1] += 1
                    if said.split()[1:2] == [b"500"]:
                        wrong.append(f"raw -> {said[:200]!r}")
            deadline = time.monotonic() + 30
            while (after := held(server)).in_flight or after.files > before.files + 2:
                if time.monotonic() > deadline:
                    wrong.append(f"left behind: {before} -> {after}")
                    break
                time.sleep(0.5)
        finally:
            server.process.terminate()
            _, log = server.process.communicate(timeout=60)
    print(f"{options.requests:,} requests, seed {options.seed}: {dict(sorted(statuses.items()))}")
    print(f"before {before}")
    print(f"after  {after}")
    print(f"tracebacks in the log: {log.count('Traceback')}")
    for line in wrong[:40]:
        print("WRONG", line)
    if "Traceback" in log:
        print(log[-6_000:])
    print(f"answers of 500, broken off or out of shape: {len(wrong)}")
    return 1 if wrong or "Traceback" in log else 0


if __name__ == "__main__":
    sys.exit(main())
