"""Take the database away again and again while jobs are made and run, and count what is lost.

    python benchmarks/job_outages.py [--outages 100] [--longest 60] [--seconds 3600]

The server reaches PostgreSQL through a line that is cut for a random time (from a fifth of a second, each
length as likely as its double, to ``--longest``); every third outage ends the server's sessions instead
(``pg_terminate_backend``). Meanwhile jobs are made through the unmodified OpenAI client and run on a tiny
base. A job counts as accepted when the client was given its id. Printed: accepted jobs that are not there,
that failed, that did not end, and whatever is there twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import openai
import psycopg

from saw import CutLine, Place, doubled, place, serve, stop, until_ended

OPEN_GATE = {
    "goal": {"metric": "perplexity"},
    "gate": {"rules": [{"metric": "perplexity", "at_most": 1e30}]},
    "evaluate": {"max_new_tokens": 4, "baseline": {"few_shot": False, "constrained": False}},
    "train": {"rank": 2, "validation_every": 5, "early_stopping": None, "threads": 1},
}


def training_rows() -> bytes:
    """Return forty rows as OpenAI's clients upload them."""
    words = ("card arrival", "top up failed")
    lines = []
    for i in range(40):
        asked = {"role": "user", "content": f"question number {i} about {words[i % 2]} and {i * i}"}
        lines.append({"messages": [asked, {"role": "assistant", "content": words[i % 2]}]})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def take_away(
    where: Place, line: CutLine, over: threading.Event, outages: int, longest: float, counts: Counter[str]
) -> None:
    """Make outages one after another, with a moment of peace between two."""
    random_ = random.Random(0)
    for number in range(outages):
        if over.wait(random_.uniform(0.5, 5)):
            return
        if number % 3 == 2:
            with psycopg.connect(where.url.replace(where.url.rpartition("/")[2], "postgres")) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    (where.url.rpartition("/")[2],),
                )
            counts["sessions ended"] += 1
            continue
        seconds = math.exp(random_.uniform(math.log(0.2), math.log(longest)))
        line.cut()
        over.wait(seconds)
        line.mend()
        counts["cuts"] += 1
        counts["seconds away"] += round(seconds)


def main() -> None:
    """Run the trial and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outages", type=int, default=100)
    parser.add_argument("--longest", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory() as scratch,
        CutLine("127.0.0.1", 5432) as line,
        place(Path(scratch) / "postgresql", "postgresql") as where,
    ):
        workspace = where.open()
        secret = workspace.keys.create("saw").secret
        through = where.url.replace(":5432", f":{line.port}")
        server = serve(where, "server", "jobs.poll_s=0.1", url=through)
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=secret, max_retries=4, timeout=90)
        file = client.files.create(file=("train.jsonl", training_rows()), purpose="fine-tune")
        over = threading.Event()
        cutter = threading.Thread(
            target=take_away, args=(where, line, over, given.outages, given.longest, counts)
        )
        accepted: list[str] = []
        ends = time.monotonic() + given.seconds
        cutter.start()
        try:
            while cutter.is_alive() and time.monotonic() < ends:
                try:
                    job = client.fine_tuning.jobs.create(
                        model=where.base.name,
                        training_file=file.id,
                        hyperparameters={"n_epochs": 6, "batch_size": 8},
                        seed=len(accepted),
                        suffix=f"bot-{len(accepted)}",
                        extra_body={"tunery": OPEN_GATE},
                    )
                    accepted.append(job.id)
                except openai.APIError as error:
                    counts[f"refused with {getattr(error, 'status_code', 'no answer')}"] += 1
                with contextlib.suppress(Exception):  # never more than three wait
                    while sum(workspace.jobs.get(i).finished_at is None for i in accepted) > 2:
                        time.sleep(0.3)
                print(f"accepted {len(accepted)}, {dict(counts)}", flush=True)
        finally:
            over.set()
            cutter.join()
            line.mend()
        known = {job.id for job in workspace.jobs.every()}
        jobs = until_ended(workspace, [i for i in accepted if i in known], 300)
        counts["accepted"] = len(accepted)
        counts["arrived though refused"] = len(known - set(accepted))
        statuses = Counter(job.status for job in jobs)
        for job in jobs:
            if job.status != "succeeded":
                print(f"  {job.id} {job.status}: {job.error}", flush=True)
        zero = {
            "lost": len([i for i in accepted if i not in known]),
            "failed": statuses["failed"],
            "stuck": sum(n for s, n in statuses.items() if s not in ("succeeded", "failed")),
            "doubled": len(twice := doubled(workspace, jobs)),
        }
        for text in twice:
            print(f"  {text}")
        print(f"all: {dict(counts)}, {dict(statuses)}, most attempts {max(job.attempts for job in jobs)}")
        print(f"must be 0: {zero}")
        client.close()
        stop(server)
        workspace.close()


if __name__ == "__main__":
    main()
