"""Killing the server in the middle of a job loses nothing and doubles nothing."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from openai import OpenAI

from tests.forked import Forked, forked
from tunery.store.workspace import Workspace

BASE = "tiny-llama"
RECIPE = {
    "goal": {"metric": "perplexity"},
    "gate": {"rules": [{"metric": "perplexity", "at_most": 1e30}]},
    "evaluate": {"max_new_tokens": 4, "baseline": {"few_shot": False, "constrained": False}},
    "train": {"rank": 2, "validation_every": 8, "early_stopping": None, "threads": 1},
}

SOON = ("jobs.lease_s=5", "jobs.poll_s=0.1")
"""What was held by a server that was killed is free after some seconds, not after half a minute."""


class Server(NamedTuple):
    """A server in a process of its own."""

    process: Forked
    client: OpenAI


@contextmanager
def serving(home: Path, base: Path, secret: str | None, *settings: str) -> Iterator[Server]:
    command = ["--home", home, "serve", "--port", 0, "--base", base, *settings]
    with forked(command, home.parent, {"TUNERY_DATABASE_URL": ""}) as process:
        deadline = time.monotonic() + 60
        while "http://" not in (said := process.text) or (secret is None and "tk-" not in said):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        url = re.search(r"http://\S+", said)
        shown = re.search(r"tk-\S+", said)
        assert url is not None
        assert (shown is None) == (secret is not None), "the key is shown once, at the first start"
        key = secret or (shown[0] if shown else "")
        with OpenAI(base_url=url[0], api_key=key, max_retries=5, timeout=30) as client:
            yield Server(process, client)


def training_rows() -> bytes:
    words = ["card arrival", "top up failed"]
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"question number {i} about {words[i % 2]} and {i * i}"},
                {"role": "assistant", "content": words[i % 2]},
            ]
        }
        for i in range(40)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def said(client: OpenAI, job_id: str) -> list[str]:
    """Oldest first."""
    return [e.message for e in client.fine_tuning.jobs.list_events(job_id, limit=1000)][::-1]


def test_a_job_goes_on_after_the_server_was_killed(tiny_model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, tiny_model, None, *SOON) as first:
        client = first.client
        file = client.files.create(file=("train.jsonl", training_rows()), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model=BASE,
            training_file=file.id,
            suffix="card-bot",
            hyperparameters={"n_epochs": 12, "batch_size": 4},
            extra_body={"tunery": RECIPE},
        )
        deadline = time.monotonic() + 90
        home_of_job = Workspace.open(home, database_url=f"sqlite:///{home}/tunery.db")
        while not home_of_job.jobs.checkpoints(job.id).items:
            status = client.fine_tuning.jobs.retrieve(job.id)
            assert status.status in {"queued", "running"}, (status.status, status.error)
            assert time.monotonic() < deadline, said(client, job.id)
            time.sleep(0.02)
        workers = psutil.Process(first.process.pid).children(recursive=True)
        assert workers
        before = said(client, job.id)
        first.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=5)
        assert alive == [], "a worker outlived its server"
        secret = client.api_key

    with serving(home, tiny_model, secret, *SOON) as second:
        client = second.client
        deadline = time.monotonic() + 90
        while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in {"succeeded", "failed"}:
            assert time.monotonic() < deadline, said(client, job.id)
            time.sleep(0.1)
        assert job.status == "succeeded", job.error
        told = said(client, job.id)
        assert told[: len(before)] == before, "an event was lost"
        doubled = [m for m, n in Counter(told).items() if n > 1]
        assert doubled == []
        assert any(m.startswith("continuing from step") for m in told)
        assert sum(m.startswith("New fine-tuned model created") for m in told) == 1
        steps = [c.step_number for c in home_of_job.jobs.checkpoints(job.id, limit=100).items]
        home_of_job.close()
        assert steps == sorted(set(steps), reverse=True)
        models = {m.id for m in client.models.list()}
        assert {"card-bot@1", job.fine_tuned_model} <= models
        assert "card-bot@2" not in models
        rows = client.files.content(job.result_files[0]).read().decode().splitlines()
        numbers = [int(row.split(",")[0]) for row in rows[1:]]
        assert numbers == sorted(set(numbers))
