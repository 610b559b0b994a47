"""How long an inventory of a large account takes, and a second one; the bar is a minute for the first.

    PYTHONPATH=. python benchmarks/rescue_inventory.py [--jobs 500 --files 2000 --latency-ms 50]

The source is the double of ``tests/doubles`` in a process of its own. The peer is the unmodified ``openai``
client reading events and checkpoints of twenty jobs one after another, scaled to all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

from openai import OpenAI

_PEER_JOBS = 20


def inventory(url: str, home: str) -> tuple[float, float, dict[str, int]]:
    """Run the command; return seconds by the clock, seconds of the processor, and what it found."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    typed = ["rescue", "inventory", "--scope", f"base-url={url},key-env=SOURCE_KEY", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tunery", "--home", home, *typed], check=True, stdout=subprocess.PIPE
    )
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)["inventory"]
    counts = {what: len(found[what]) for what in ("models", "jobs", "files", "problems")}
    counts["events"] = sum(job["events"] for job in found["jobs"])
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, counts


def peer(url: str, key: str, jobs: int) -> float:
    """Return the seconds that the unmodified client would take for all jobs, one request after another."""
    client = OpenAI(base_url=url, api_key=key)
    listed = list(client.fine_tuning.jobs.list(limit=_PEER_JOBS).data)
    start = time.monotonic()
    for job in listed:
        list(client.fine_tuning.jobs.list_events(job.id, limit=100))
        list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=100))
    return (time.monotonic() - start) * jobs / len(listed)


def main() -> None:
    """Print one line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    given = parser.parse_args()
    double = [sys.executable, "-m", "tests.doubles.openai_source", "--jobs", str(given.jobs)]
    double += ["--files", str(given.files), "--latency-ms", str(given.latency_ms)]
    with (
        subprocess.Popen(double, stdout=subprocess.PIPE, text=True) as source,
        tempfile.TemporaryDirectory() as home,
    ):
        assert source.stdout is not None
        url, _, key = source.stdout.readline().split()
        os.environ["SOURCE_KEY"] = key
        try:
            for which in ("first", "second"):
                seconds, processor, counts = inventory(url, home)
                print(f"{which} inventory: {seconds:.1f} s, {processor:.1f} s of the processor, {counts}")
                if which == "first":
                    first = seconds
            one_by_one = peer(url, key, given.jobs)
            print(
                f"one after another by the client: {one_by_one:.1f} s, {one_by_one / first:.1f} times as long"
            )
        finally:
            source.kill()


if __name__ == "__main__":
    main()
