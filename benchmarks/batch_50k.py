"""A batch of fifty thousand lines: how fast, and in how much memory?

    python benchmarks/batch_50k.py [--lines 50000] [--embedded] [key=value …]

In front of an upstream that answers at once, or with ``--embedded`` on the tiny random model. The server has
one core (0), the upstream and the client the other (1), as in ``gateway_load.py``. Prints the server's
memory at each tenth of the lines and at the end (PSS, and what of it is no file's), lines a second, and
processor time of a line; checks that each line is in the output once. Settings behind the options go to
``tunery serve`` as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

from openai import OpenAI

from gateway_load import LOAD_CORE, Peer, free_port, gateway, mock_command, processor_s, running


def memory(process: int) -> str:
    """Return what memory a process has, what it shares with others divided among them."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = dict(re.findall(r"^(Pss|Pss_Anon):\s+(\d+) kB", rollup, re.MULTILINE))
    return f"PSS {int(found['Pss']) / 1024:7.1f} MiB, {int(found['Pss_Anon']) / 1024:7.1f} MiB of it its own"


def written(lines: int) -> bytes:
    """Return a batch's file."""
    bodies = (
        {
            "model": "mock",
            "messages": [{"role": "user", "content": f"When will card {n} arrive?"}],
            "max_tokens": 8,
        }
        for n in range(lines)
    )
    return "".join(
        json.dumps({"custom_id": f"row-{n}", "method": "POST", "url": "/v1/chat/completions", "body": body})
        + "\n"
        for n, body in enumerate(bodies)
    ).encode()


def measure(peer: Peer, lines: int) -> None:
    """Have one batch answered and print what it took."""
    client = OpenAI(base_url=peer.url, api_key=peer.key)
    file = client.files.create(file=("batch.jsonl", written(lines)), purpose="batch")
    used, began = processor_s(peer.process), time.perf_counter()
    id = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    ).id
    tenth = 1
    while (batch := client.batches.retrieve(id)).status not in (
        "completed",
        "failed",
        "expired",
        "cancelled",
    ):
        counts = batch.request_counts
        if counts is not None and counts.completed >= tenth * lines / 10:
            print(f"{counts.completed:>7,} lines: {memory(peer.process)}", flush=True)
            tenth = 1 + 10 * counts.completed // lines
        time.sleep(0.1)
    took = time.perf_counter() - began
    cpu = processor_s(peer.process) - used
    print(f"        {batch.status}: {memory(peer.process)}")
    assert batch.output_file_id is not None, batch
    ids = [
        json.loads(line)["custom_id"] for line in client.files.content(batch.output_file_id).text.splitlines()
    ]
    assert ids == [f"row-{n}" for n in range(lines)]
    print(f"{lines / took:,.0f} lines/s; {1000 * cpu / lines:.2f} ms of processor time a line")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--embedded", action="store_true", help="answer with the tiny model, no upstream")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        upstream = None if given.embedded else port
        with (
            running(mock_command(port), LOAD_CORE, folder / "mock.log"),
            gateway(folder, upstream, given.settings) as peer,
        ):
            measure(peer, given.lines)


if __name__ == "__main__":
    main()
