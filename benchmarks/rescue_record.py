"""Recordings at a rate limit with kills in between: how near to the limit, and whether any is paid for twice.

    PYTHONPATH=. python benchmarks/rescue_record.py [--prompts 10000 --per-minute 6000 --kills 10]

The source is the double of ``tests/doubles``, in this process, which counts what it answers and turns away
with 429 what is over the limit in any window of a minute; the recorder is the command line in a process of
its own at exactly that limit, killed with SIGKILL at random times. A request in flight at a kill is asked
again, as nobody can know whether it was billed; beyond those, and the twenty that are asked twice on
purpose, each prompt must be answered once: the benchmark fails where one was not, or was once too often.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tests.doubles.openai_source import KEY, OpenAISource, chat_row, serving
from tests.doubles.rolling import RollingLimits

from tunery.rescue.folder import RescueFolder

MODEL = "ft:gpt-4o-mini-2024-07-18:acme::Ab1"
CONCURRENCY = 16
REPEATS = 20
"""Prompts that are put twice on purpose [count]."""


def rows(count: int) -> list[dict[str, Any]]:
    """Return rows whose prompts do not resemble each other."""
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        chat_row(" ".join("".join(draw.choices(letters, k=7)) for _ in range(8)), "yes") for _ in range(count)
    ]


def check_each(asked: Mapping[str, int], prompts: Collection[str], *, in_flight: int) -> int:
    """Return how many prompts were answered again after a kill.

    Args:
        asked: Prompt to how often it was answered.
        prompts: All there are.
        in_flight: Requests that kills left without a known end, at most [count].

    Raises:
        SystemExit: One was never answered, or more often than kills and repeats explain.
    """
    if missing := sum(prompt not in asked for prompt in prompts):
        raise SystemExit(f"{missing} prompts were never answered")
    again = sum(count > 1 for count in asked.values())
    often = sum(count > 2 for count in asked.values())
    if again > REPEATS + in_flight or often > in_flight:
        raise SystemExit(f"{again} prompts were answered twice or more, {often} of them more often")
    return sum(asked.values()) - len(asked) - REPEATS


def main() -> None:
    """Record, kill, record on; print what it took and what was asked twice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--per-minute", type=int, default=6_000)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    source = OpenAISource(say=lambda body: "yes")
    drawn = rows(options.prompts)
    source.add_fine_tune("Ab1", drawn)
    source.trouble.limits = limits = RollingLimits(requests=options.per_minute)
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder, serving(source):
        env = {**os.environ, "TUNERY_HOME": folder, "SOURCE_KEY": KEY}
        typed = [sys.executable, "-m", "tunery", "rescue"]
        scope = ["--scope", f"base-url={source.url},key-env=SOURCE_KEY"]
        for words in (["inventory", *scope], ["fetch"]):
            subprocess.run([*typed, *words], env=env, check=True, stdout=subprocess.DEVNULL)
        record = [
            *typed, "record", "--terms-read", "--yes", "--concurrency", str(CONCURRENCY),
            "--requests-per-minute", str(options.per_minute), "--max-tokens", "16", "--json",
        ]  # fmt: skip
        ideal = (options.prompts + REPEATS) / options.per_minute * 60
        began = time.monotonic()
        for _ in range(options.kills):
            process = subprocess.Popen(record, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(draw.uniform(0.5, 1.5) * ideal / options.kills / 2)
            process.send_signal(signal.SIGKILL)
            process.wait()
        between = time.monotonic() - began
        there = len(source.completions)
        begun_last = time.monotonic()
        done = subprocess.run(record, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        last = time.monotonic() - begun_last
        recorded = json.loads(done.stdout)["recorded"]
        kept = list(RescueFolder(Path(folder), "openai").recordings(MODEL))
        asked = Counter(str(body["messages"][-1]["content"]) for body in source.completions)
        twice = check_each(
            asked,
            [row["messages"][0]["content"] for row in drawn],
            in_flight=CONCURRENCY * options.kills,
        )
        rate = (len(source.completions) - there) / last * 60
    print(f"{len(kept):,} recordings of {options.prompts:,}; {len(source.completions):,} requests answered")
    print(f"answered again after {options.kills} kills: {twice} (in flight at most {CONCURRENCY} each)")
    print(f"turned away by the limit (429): {limits.refused:,}")
    print(f"tokens counted as lost: {recorded['lost']:,}")
    pace = f"{rate:,.0f} a minute of {options.per_minute:,}"
    print(f"{between:.0f} s with kills, {last:.0f} s for the rest: {pace}")
    print(f"at the limit all would take {ideal:.0f} s")


if __name__ == "__main__":
    main()
