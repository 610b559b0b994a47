"""Many workers at one queue: no job twice, no device twice, nothing left over."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.unit.store import samples
from tests.unit.store.at_once import at_once
from tests.unit.store.conftest import ManualClock
from tunery.core.errors import ConflictError
from tunery.core.job import Job
from tunery.store.workspace import Workspace

JOBS = 24
DEVICES = 3


def fill(workspace: Workspace) -> None:
    for number in range(JOBS):
        workspace.jobs.add(samples.job(f"ftjob-{number}"))


def test_threads_share_the_queue_and_the_devices(workspace: Workspace) -> None:
    fill(workspace)
    guard, busy, done = threading.Lock(), Counter[str](), Counter[str]()
    clashes: list[str] = []
    until = time.monotonic() + 60

    def work(number: int) -> None:
        worker = f"w{number}"
        while sum(done.values()) < JOBS and time.monotonic() < until:
            job = workspace.jobs.claim(worker, 60, f"gpu-{number % DEVICES}")
            if job is None:
                continue
            with guard:
                busy[job.device] += 1
                if busy[job.device] > 1:
                    clashes.append(job.id)
            with guard:
                busy[job.device] -= 1
            workspace.jobs.finish(job.id, worker, "succeeded")
            with guard:
                done[job.id] += 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert clashes == []
    assert done == Counter({f"ftjob-{number}": 1 for number in range(JOBS)})
    assert {job.attempts for job in workspace.jobs.list(limit=JOBS)} == {1}


def test_of_threads_that_claim_at_one_moment_one_per_device_gets_a_job(workspace: Workspace) -> None:
    for turn in range(5):
        for number in range(6):
            workspace.jobs.add(samples.job(f"ftjob-{turn}-{number}"))
        claimed = at_once(workspace, 8, lambda n: workspace.jobs.claim(f"w{n}", 60, f"gpu-{n % DEVICES}"))
        assert Counter(job.device for job in claimed if job) == {f"gpu-{n}": 1 for n in range(DEVICES)}
        for job in workspace.jobs.list(limit=6):
            if job.status == "running":
                workspace.jobs.finish(job.id, str(job.worker), "succeeded")
            else:
                workspace.jobs.request_cancel(job.id)


def test_an_expired_lease_is_taken_by_one(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job())
    workspace.jobs.claim("dead", 60)
    clock.pass_(61)
    taken = [job for job in at_once(workspace, 8, lambda n: workspace.jobs.claim(f"w{n}", 60)) if job]
    assert [(job.id, job.attempts) for job in taken] == [("ftjob-1", 2)]


def test_a_job_is_ended_by_one(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    workspace.jobs.claim("w1", 60)

    def finish(number: int) -> bool:
        try:
            workspace.jobs.finish("ftjob-1", "w1", "succeeded", trained_tokens=number)
        except ConflictError:
            return False
        return True

    assert sum(at_once(workspace, 8, finish)) == 1


def test_a_job_is_either_claimed_or_cancelled(workspace: Workspace) -> None:
    for turn in range(5):
        id = f"ftjob-{turn}"
        workspace.jobs.add(samples.job(id))

        def race(number: int, id: str = id) -> Job | None:
            return workspace.jobs.claim("w1", 60) if number else workspace.jobs.request_cancel(id)

        requested, claimed = at_once(workspace, 2, race)
        job = workspace.jobs.get(id)
        assert job.cancel_requested
        assert requested is not None
        # Asked first, it never ran; asked second, its worker knows.
        assert (requested.status, claimed is None) in {("cancelled", True), ("running", False)}
        assert job.status == requested.status
        if claimed:
            workspace.jobs.finish(id, "w1", "cancelled")


_WORKER = """
import sys
from pathlib import Path
from tunery.store.workspace import Workspace
workspace = Workspace.open(Path(sys.argv[1]), database_url=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
idle = 0
while idle < 20:
    job = workspace.jobs.claim(sys.argv[3], 600, sys.argv[3])
    if job is None:
        idle += 1
        continue
    running = [j for j in workspace.jobs.list(limit=100) if j.status == "running"]
    assert len({j.device for j in running}) == len(running), running
    workspace.jobs.finish(job.id, sys.argv[3], "succeeded")
    print(job.id, flush=True)
workspace.close()
"""


def test_processes_share_the_queue(workspace: Workspace, database_url: str) -> None:
    fill(workspace)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(workspace.root), database_url, f"w{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n") for process in processes]
    assert [err for _, err in outputs] == ["", "", ""]
    finished = Counter(id for out, _ in outputs for id in out.split())
    # A worker may give up while the others hold every device; what is left waits, and is not lost.
    left = {job.id for job in workspace.jobs.list(limit=100) if job.status == "queued"}
    assert finished == Counter({f"ftjob-{n}": 1 for n in range(JOBS) if f"ftjob-{n}" not in left})
    assert len(finished) > JOBS // 2
