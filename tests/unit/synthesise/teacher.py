"""A teacher for tests: the chat-completions protocol on a real socket, with faults on demand.

What it answers depends on the prompt alone, so that a call that was cut off and one that was not must end
with the same rows.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY = "sk-test-0123456789"
WORDS = re.findall(
    r"\w+",
    "amber basil candle dragon ember fossil garden harbour island jacket kettle lantern marble needle orchid "
    "parcel quartz ribbon saddle timber umbrella velvet walnut yellow zipper anchor bridge copper desert "
    "engine falcon guitar hammer insect jungle ladder mirror nickel oyster pepper rocket silver tunnel",
)
Say = Callable[[dict[str, Any]], str]
Fault = int | str | tuple[int, dict[str, str]]
"""A status (with headers), or ``hang``, ``cut``, ``nonsense``."""


def row_text(draw: random.Random) -> str:
    """Return a text that resembles no other: six words of many."""
    return "please look at " + " ".join(draw.sample(WORDS, 6))


def usual(body: dict[str, Any]) -> str:
    """Answer as a good teacher or judge would."""
    system, user = (m["content"] for m in body["messages"])
    draw = random.Random(user)
    count = int(re.findall(r"exactly (\d+)", user)[-1])
    if "judge" in system:
        return json.dumps([draw.choice([2, 4, 5]) for _ in range(count)])
    if "objects" in system:
        labels = re.search(r"always one of: (\[.*\])", user)
        outputs = json.loads(labels[1]) if labels else ["an answer"]
        return json.dumps([{"input": row_text(draw), "output": draw.choice(outputs)} for _ in range(count)])
    return json.dumps([row_text(draw) for _ in range(count)])


@dataclass
class Teacher:
    """What the server does and what it saw."""

    say: Say = usual
    faults: list[Fault] = field(default_factory=list)
    """Taken one by one before anything is answer."""
    delay_s: Callable[[int], float] = lambda number: 0.0
    metered: bool = True
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Requests that were answered with a completion, or hung, or were cut: what a provider would bill."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request."""
    seen: int = 0
    at: list[float] = field(default_factory=list)
    """When each request came [s of the server's clock]."""
    most_at_once: int = 0
    tokens: int = 0
    """Billed for completions [tokens]."""
    _now: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        number, self.seen = self.seen, self.seen + 1
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.at.append(asyncio.get_running_loop().time())
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._answer(request, number)
        finally:
            self._now -= 1

    async def _answer(self, request: web.Request, number: int) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            message = f"Incorrect API key provided: {request.headers.get('Authorization', '')[7:]}"
            return web.json_response({"error": {"message": message, "code": "invalid_api_key"}}, status=401)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, tuple):
            message = fault[1].get("X-Message", "later")
            return web.json_response({"error": {"message": message}}, status=fault[0], headers=fault[1])
        if fault in (201, 204):
            return web.Response(status=fault)
        if isinstance(fault, int):
            return web.json_response({"error": {"message": f"fault {fault}"}}, status=fault)
        body = await request.json()
        self.bodies.append(body)
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "cut":
            assert request.transport is not None
            request.transport.abort()
        if fault == "nonsense":
            return web.Response(text="<html>maintenance</html>")
        await asyncio.sleep(self.delay_s(number))
        text = self.say(body)
        prompt = sum(len(m["content"]) for m in body["messages"]) // 4
        completion = min(len(text) // 4, body["max_tokens"])
        self.tokens += prompt + completion
        answer: dict[str, Any] = {
            "id": f"chatcmpl-{number}",
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        }
        if self.metered:
            answer["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion}
        return web.json_response(answer)


@contextmanager
def serving(teacher: Teacher, tls: ssl.SSLContext | None = None) -> Iterator[Teacher]:
    """Serve on a free loopback port until the block ends."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(_app(teacher), shutdown_timeout=0.1)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(_listen(runner, teacher, tls), loop).result(timeout=10)
        yield teacher
    finally:
        asyncio.run_coroutine_threadsafe(_end(runner), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


def _app(teacher: Teacher) -> web.Application:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", teacher.answer)
    return app


async def _listen(runner: web.AppRunner, teacher: Teacher, tls: ssl.SSLContext | None) -> None:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    teacher.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/v1"


async def _end(runner: web.AppRunner) -> None:
    await runner.cleanup()
    left = asyncio.all_tasks() - {asyncio.current_task()}  # requests that hang
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
