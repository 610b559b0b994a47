"""Stop a worker past its lease, wake it when its job was taken over or ended; count what it still writes.

    python benchmarks/lost_lease.py [--trials 50] [--database sqlite|postgresql|both] [--seconds 1500]

Two servers share a home and a database; the second one takes itself for another machine, so that nobody
kills the stopped worker for it. A worker is stopped (SIGSTOP) at a random moment for longer than its lease.
In every second trial its job is cancelled while it is stopped: nothing may change any more when it wakes. In
the others the job is finished by the other server. Printed: writes after, jobs with another number of
outcomes than one, versions and events that are there twice.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from saw import Place, Server, doubled, place, queue_job, serve, snapshot, stop, until_ended, worker_of
from tunery.core.job import FINAL_STATUSES
from tunery.store.workspace import Workspace

SETTINGS = ("jobs.lease_s=3", "jobs.poll_s=0.1", "jobs.max_attempts=3")


def trial(
    where: Place, workspace: Workspace, servers: tuple[Server, Server], number: int, random_: random.Random
) -> Counter[str]:
    """Stop one worker at one moment and return what came of it."""
    counts: Counter[str] = Counter()
    job = queue_job(where, workspace, f"bot-{number}", seed=number)
    worker, deadline = None, time.monotonic() + 60
    while worker is None and time.monotonic() < deadline:
        worker = next((w for s in servers if (w := worker_of(s, job.id))), None)
        time.sleep(0.02)
    if worker is None:
        return Counter(never_started=1)
    # Half of the moments lie in the start of the process, half in the work.
    time.sleep(random_.uniform(0, 6))
    with contextlib.suppress(psutil.Error):
        worker.send_signal(signal.SIGSTOP)
    holder = workspace.jobs.get(job.id).worker
    stopped = time.monotonic()
    cancel = number % 2 == 0
    while time.monotonic() - stopped < 40:
        now = workspace.jobs.get(job.id)
        if now.status in FINAL_STATUSES or now.worker != holder:
            break
        time.sleep(0.05)
    now = workspace.jobs.get(job.id)
    if now.status in FINAL_STATUSES and now.status != "cancelled":
        counts["ended_before_it_was_stopped"] += 1
    elif now.worker == holder:
        counts["kept"] += 1
    else:
        counts["taken_over"] += 1
        if cancel:
            workspace.jobs.request_cancel(job.id)
            until_ended(workspace, [job.id], 60)
    ended = workspace.jobs.get(job.id).status in FINAL_STATUSES
    time.sleep(0.5)
    before = snapshot(workspace)
    with contextlib.suppress(psutil.Error):
        worker.send_signal(signal.SIGCONT)
        worker.wait(timeout=10)
    if ended:
        time.sleep(0.5)
        counts["woken_after_the_end"] += 1
        after = snapshot(workspace)
        changed = [table for table in before if before[table] != after[table]]
        counts["writes_after"] += len(changed)
        if changed:
            print(f"  {job.id}: written after its end: {changed}", flush=True)
    (last,) = until_ended(workspace, [job.id], 120)
    counts[last.status if last.status in FINAL_STATUSES else "stuck"] += 1
    twice = doubled(workspace, [last])
    for line in twice:
        print(f"  {line}", flush=True)
    counts["doubled"] += len(twice)
    versions = workspace.models.list(f"bot-{number}")
    wrong = len(versions) != (1 if last.status == "succeeded" else 0)
    # A job that was cancelled after its version was registered keeps the version; that is no second outcome.
    counts["other_outcomes"] += int(wrong and last.status == "succeeded")
    if last.status == "failed":
        print(f"  {job.id} failed: {last.error}", flush=True)
    return counts


def main() -> None:
    """Run the trials and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kinds = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    ends = time.monotonic() + given.seconds
    random_ = random.Random(given.seed)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for kind in kinds:
            counts: Counter[str] = Counter()
            with place(Path(scratch) / kind, kind) as where:
                workspace = where.open()
                servers = (
                    serve(where, "here", *SETTINGS),
                    serve(where, "there", *SETTINGS, hostname="another-machine"),
                )
                try:
                    for number in range(1, given.trials // len(kinds) + 1):
                        if time.monotonic() > ends:
                            break
                        counts += trial(where, workspace, servers, number, random_)
                        counts["trials"] += 1
                        print(f"{kind}: {dict(counts)}", flush=True)
                finally:
                    for server in servers:
                        stop(server)
                    workspace.close()
            total += counts
    zero = {name: total[name] for name in ("writes_after", "doubled", "other_outcomes", "stuck", "failed")}
    print(f"all: {dict(total)}\nmust be 0: {zero}")


if __name__ == "__main__":
    main()
