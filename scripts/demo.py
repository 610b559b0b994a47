"""Run the whole loop on BANKING77, serve the result, and ask it a question through the openai client.

Everything here is what a person would type: commands of the CLI and a few lines of the openai client.
State goes to ``.tunery/`` beside the checkout unless TUNERY_HOME says otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "banking77-quick.yaml"
QUESTION = "I still have not received my new card, I ordered it over a week ago."


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
    print(f"\nThe whole loop took {(time.monotonic() - started) / 60:.1f} minutes. To go on with this model:")
    print("  source .venv/bin/activate")
    print(f"  export TUNERY_HOME={os.environ['TUNERY_HOME']}")
    print("  tunery keys create me && tunery serve")
    return 0


def tunery() -> list[str]:
    """Return the command that starts this environment's CLI."""
    return [sys.executable, "-m", "tunery"]


def ask_served(model: str, question: str) -> str:
    """Start a server on a free port, ask one question through the unmodified client, stop it."""
    from openai import OpenAI

    created = subprocess.check_output([*tunery(), "keys", "create", "demo", "--json"], text=True)
    key = json.loads(created)
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [*tunery(), "serve", "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        try:
            client = OpenAI(base_url=url_of(server), api_key=key["secret"])
            reply = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}]
            )
            return reply.choices[0].message.content or ""
        except BaseException:
            log.seek(0)
            print(log.read(), file=sys.stderr)
            raise
        finally:
            server.terminate()
            subprocess.run([*tunery(), "keys", "revoke", key["id"]], stdout=subprocess.DEVNULL, check=True)


def url_of(server: subprocess.Popen[str]) -> str:
    """Return the address that the server prints once it listens."""
    written = ""
    for line in server.stdout or ():
        written += line
        try:
            return str(json.loads(written)["url"])
        except json.JSONDecodeError:
            continue  # a JSON value over several lines
    raise SystemExit(f"the server ended with code {server.wait()}")


if __name__ == "__main__":
    sys.exit(main())
