"""Latencies of ``/health`` and of completions while many uploads of packed blank lines come in at once.

    python benchmarks/uploads_beside_health.py BASE [--uploads 44] [--megabytes 64]

Starts a server of its own, measures for some seconds without uploads, then while all of them are sent, and
prints the 50th and 99th percentile of both, the statuses of the uploads, and how long SIGTERM took in the
middle of as many again.
"""

from __future__ import annotations

import argparse
import gzip
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from fuzz_server import Server, ask, start

_BOUNDARY = b"xxboundaryxx"


def upload(server: Server, content: bytes) -> int:
    """Send one file and return the status, 0 where the connection broke."""
    head = b'Content-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--' + _BOUNDARY
    file = b'Content-Disposition: form-data; name="file"; filename="a.jsonl.gz"\r\n\r\n' + content
    body = b"--" + _BOUNDARY + b"\r\n" + head + b"\r\n" + file + b"\r\n--" + _BOUNDARY + b"--\r\n"
    kind = f"multipart/form-data; boundary={_BOUNDARY.decode()}"
    try:
        return ask(server, "POST", "/v1/files", body, {"Content-Type": kind})[0]
    except OSError:
        return 0


def measured(server: Server, until: threading.Event) -> tuple[list[float], list[float]]:
    """Ask again and again; return latencies of health and of completions [ms]."""
    health: list[float] = []
    answers: list[float] = []
    body = b'{"model": "%s", "prompt": "a", "max_tokens": 4}' % server.base.encode()
    while not until.is_set():
        for into, method, path, sent in (
            (health, "GET", "/health", None),
            (answers, "POST", "/v1/completions", body),
        ):
            began = time.perf_counter()
            status, _ = ask(server, method, path, sent, {})
            into.append((time.perf_counter() - began) * 1000)
            assert status == 200, (path, status)
    return health, answers


def told(name: str, values: list[float]) -> None:
    """Print two percentiles."""
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else values * 99
    print(f"{name}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, {len(values)} asked")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--uploads", type=int, default=44)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    os.environ["TUNERY_DATABASE_URL"] = ""
    content = gzip.compress(b"\n" * (options.megabytes << 20))
    with tempfile.TemporaryDirectory() as home:
        server = start(Path(home), options.base)
        try:
            ask(
                server,
                "POST",
                "/v1/completions",
                b'{"model": "%s", "prompt": "a"}' % server.base.encode(),
                {},
            )
            for name, uploads in (("without uploads", 0), (f"{options.uploads} uploads", options.uploads)):
                over = threading.Event()
                statuses: Counter[int] = Counter()

                def send(statuses: Counter[int] = statuses) -> None:
                    statuses[upload(server, content)] += 1

                threads = [threading.Thread(target=send) for _ in range(uploads)]
                began = time.perf_counter()
                for thread in threads:
                    thread.start()
                ends = threading.Timer(options.seconds, over.set)
                ends.start()
                health, answers = measured(server, over)
                for thread in threads:
                    thread.join()
                told(f"{name}, /health", health)
                told(f"{name}, completions of 4 tokens", answers)
                if uploads:
                    print(f"uploads: {dict(statuses)} in {time.perf_counter() - began:.1f} s")
            threads = [
                threading.Thread(target=upload, args=(server, content)) for _ in range(options.uploads)
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            began = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(60)
            print(
                f"SIGTERM to the end: {time.perf_counter() - began:.2f} s, code {server.process.returncode}"
            )
        finally:
            server.process.kill()


if __name__ == "__main__":
    main()
