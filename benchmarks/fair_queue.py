"""One key sends many long requests at once, another a short one: how long does that wait?

    python benchmarks/fair_queue.py [--many 120] [--tokens 400] [--rounds 3] [--base FOLDER] [key=value …]

Serves a base (a tiny random one by default) in a process of its own and measures the short request of the
second key while the server is idle, and then ``--rounds`` times half a second after the first key's many. It
prints both, what the many took together, and their tokens a second and a second of processor time. Settings
behind the options go to ``tunery serve`` as they are. ``--probes N`` sends N short requests one after another
instead of one. With ``--schemas`` the many bring schemas that are expensive to compile, the short one a plain
one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[1]
LEAD_S = 0.5
"""How long after the many the short request comes [s]."""


def keys_in(home: Path) -> tuple[str, str]:
    """Return the secrets of two new keys."""
    from tunery.store.workspace import Workspace

    workspace = Workspace.open(home)
    try:
        return workspace.keys.create("many").secret, workspace.keys.create("short").secret
    finally:
        workspace.close()


def ask(
    url: str, key: str, model: str, number: int, tokens: int, schema: dict[str, Any] | None = None
) -> tuple[float, int]:
    """Return how long a request took [s] and how many tokens it got."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": f"request {number} says"}],
        "max_tokens": tokens,
        "temperature": 1.0,
        "seed": number,
    }
    if schema is not None:
        form = {"name": "form", "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    began = time.perf_counter()
    answer = httpx2.post(
        f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=600
    )
    answer.raise_for_status()
    return time.perf_counter() - began, int(answer.json()["usage"]["completion_tokens"])


def costly(number: int, depth: int = 3) -> dict[str, Any]:
    """Return a schema that takes half a second of processor time to compile, each number another."""
    inner = costly(number, depth - 1) if depth else {"type": "string"}
    names = [f"key_{number}_{depth}_{n}" for n in range(3)]
    return {"anyOf": [{"type": "object", "properties": dict.fromkeys(names, inner)} for _ in range(3)]}


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def crowd(url: str, keys: tuple[str, str], model: str, pid: int, given: argparse.Namespace) -> None:
    """Measure one round and print it."""
    many, short = keys
    used = cpu_s(pid)
    with ThreadPoolExecutor(given.many) as threads:
        began = time.perf_counter()
        forms = [costly(n) if given.schemas else None for n in range(given.many)]
        waiting = [
            threads.submit(ask, url, many, model, n, given.tokens, form) for n, form in enumerate(forms)
        ]
        time.sleep(LEAD_S)
        form = {"type": "object"} if given.schemas else None
        waits = [ask(url, short, model, 10_000 + n, given.short_tokens, form)[0] for n in range(given.probes)]
        answers = [future.result() for future in waiting]
        took = time.perf_counter() - began
    tokens = sum(count for _, count in answers)
    print(
        f"in the crowd: short {statistics.median(waits):.2f} s (longest {max(waits):.2f} s); "
        f"the {given.many} took {took:.1f} s, {tokens / took:,.0f} tokens/s, "
        f"{tokens / (cpu_s(pid) - used):,.0f} tokens a second of processor",
        flush=True,
    )


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        base = given.base or tiny_base(Path(folder) / "base")
        keys = keys_in(home)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "tunery", "serve", "--json", f"base={base}", "run_jobs=false"]
        command += ["--port", str(port), "engine.threads=1", *given.settings]
        process = subprocess.Popen(
            command, env={**os.environ, "TUNERY_HOME": str(home)}, stdout=subprocess.PIPE
        )
        try:
            url = f"http://127.0.0.1:{port}"
            model = announced(process)
            ask(url, keys[1], model, 0, 2)  # opens the model
            idle = [ask(url, keys[1], model, n, given.short_tokens)[0] for n in range(5)]
            print(f"idle: short {statistics.median(idle):.2f} s")
            for _ in range(given.rounds):
                crowd(url, keys, model, process.pid, given)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def announced(process: subprocess.Popen[bytes]) -> str:
    """Return the base's name once the server answers."""
    assert process.stdout is not None
    text = b""
    while not text.rstrip().endswith(b"}"):
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start")
        text += line
    threading.Thread(target=process.stdout.read, daemon=True).start()
    time.sleep(1)
    return str(json.loads(text)["base"])


def tiny_base(folder: Path) -> Path:
    sys.path.insert(0, str(ROOT))
    from tests.tiny.build import build_tiny

    return build_tiny(folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--many", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--short-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--probes", type=int, default=1)
    parser.add_argument("--schemas", action="store_true", help="hold all to schemas, the many to costly ones")
    parser.add_argument("--base", type=Path)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    return parser.parse_args()


if __name__ == "__main__":
    main()
