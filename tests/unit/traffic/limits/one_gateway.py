"""One gateway of several that count together: lets calls in, answers them, books them, and says so in a file.

    python -m tests.unit.traffic.limits.one_gateway HOME DATABASE_URL LINES REDIS_PREFIX SEED

Lines are written before and after each step, each with one write, so that SIGKILL leaves whole ones.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tunery.core.limits import Scope
from tunery.store.limits import Counts
from tunery.store.workspace import Workspace
from tunery.traffic.limits.config import LimitSettings
from tunery.traffic.limits.database import DatabaseLedger
from tunery.traffic.limits.ledger import Ledger
from tunery.traffic.limits.meter import Meter, Refusal
from tunery.traffic.limits.redis import RedisLedger
from tunery.traffic.limits.refusal import Size

CALLER = Scope("default", "key-1", None, "bot")
LEASE_S = 2.0
THREADS = 3


def main() -> None:
    """Answer calls until stdin ends."""
    home, url, lines, prefix, seed = sys.argv[1:]
    workspace = Workspace.open(Path(home), database_url=url)
    ledger: Ledger
    if prefix == "-":
        ledger = DatabaseLedger(Counts(workspace.database.hurried()))
    else:
        ledger = RedisLedger("redis://127.0.0.1:6379/15", prefix=prefix)
    meter = Meter(workspace, LimitSettings(lease_s=LEASE_S), ledger)
    meter.start()
    written = os.open(lines, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    over = threading.Event()

    def say(what: str, id: str, tokens: int) -> None:
        line = {"what": what, "id": id, "tokens": tokens, "at": time.monotonic(), "pid": os.getpid()}
        os.write(written, (json.dumps(line) + "\n").encode())

    def answer(thread: int) -> None:
        draw, number = random.Random(f"{seed}-{thread}"), 0
        while not over.is_set():
            number += 1
            id, tokens = f"{seed}-{thread}-{number}", draw.randint(10, 400)
            say("ask", id, tokens)
            hold = meter.admit(id, CALLER, Size(0, tokens, 1))
            if isinstance(hold, Refusal):
                say("refused", id, tokens)
                time.sleep(0.01)
                continue
            say("begin", id, tokens)
            time.sleep(draw.uniform(0, 0.03))
            used = draw.randint(0, tokens)
            say("end", id, used)
            hold.settle(0, used)

    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(answer, n) for n in range(THREADS)]
        say("ready", "", 0)
        sys.stdin.read()
        over.set()
        for future in running:
            future.result()
    meter.close()
    workspace.close()


if __name__ == "__main__":
    main()
