"""Run the whole loop on BANKING77, serve the result, and ask it a question through the openai client.

Everything here is what a person would type: two commands of the CLI and eight lines of the openai client.
State goes to ``.tunery/`` beside the checkout unless TUNERY_HOME says otherwise.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "banking77-quick.yaml"
QUESTION = "I still have not received my new card, I ordered it over a week ago."
START_SECONDS = 120


def main() -> int:
    """Return the exit code of the first step that failed, else 0."""
    os.environ.setdefault("TUNERY_HOME", str(ROOT / ".tunery"))
    started = time.monotonic()
    print(f"$ tunery run {RECIPE.relative_to(ROOT)}", flush=True)
    code = subprocess.call([*tunery(), "run", str(RECIPE)])
    if code:
        return code
    print("\n$ tunery serve", flush=True)
    answer = ask_served("banking77-quick", QUESTION)
    print(f"  asked through the openai client: {QUESTION!r}")
    print(f"  banking77-quick answered:        {answer!r}")
    print(f"\nThe whole loop took {(time.monotonic() - started) / 60:.1f} minutes.")
    return 0


def tunery() -> list[str]:
    """Return the command that starts this environment's CLI."""
    return [sys.executable, "-m", "tunery"]


def ask_served(model: str, question: str) -> str:
    """Start a server on a free port, ask one question, stop it."""
    from openai import OpenAI

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    created = subprocess.check_output([*tunery(), "keys", "create", "demo", "--json"], text=True)
    secret = json.loads(created)["secret"]
    server = subprocess.Popen([*tunery(), "serve", "--port", str(port)])
    try:
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=secret)
        wait_until_up(client, server)
        reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}])
        return reply.choices[0].message.content or ""
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_up(client: Any, server: subprocess.Popen[bytes]) -> None:
    """Return once the server answers; raise when it ended or takes longer than two minutes."""
    from openai import APIConnectionError

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with code {server.returncode}")
        try:
            client.models.list()
        except APIConnectionError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"the server did not answer within {START_SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
