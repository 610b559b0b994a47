"""Jobs are judged by the engine that serves: where it is a started vLLM, by the very same server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration import upstream_double
from tests.integration.live_api import live
from tests.integration.test_api_jobs import create, training_file, wait
from tunery.api.config import ServerSettings
from tunery.api.server import engine_opener
from tunery.core.engine import GenerationRequest
from tunery.model.bases import describe_base
from tunery.pipeline.gateway.bases import BasePool
from tunery.pipeline.jobs.shared_engine import engine_for_jobs
from tunery.pipeline.jobs.supervisor import SupervisorSettings
from tunery.serve.engines import EngineSettings, engine_settings, open_engine
from tunery.serve.engines.upstream.engine import UpstreamEngine
from tunery.serve.engines.upstream.shared import shared_environment, sharing
from tunery.serve.engines.vllm import VllmSettings
from tunery.store.workspace import Workspace


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    return tmp_path / "starts"


@pytest.fixture
def settings(starts: Path) -> EngineSettings:
    words = [
        sys.executable,
        upstream_double.__file__,
        "{port}",
        "shared",
        str(starts),
        "--max-lora-rank",
        "32",
    ]
    return engine_settings({"kind": "vllm", "command": words})


def test_another_process_uses_the_server_and_what_it_has_loaded(
    tiny_model: Path, tiny_adapters: dict[str, Path], settings: EngineSettings, starts: Path
) -> None:
    own = open_engine(tiny_model, settings)
    assert isinstance(own, UpstreamEngine)
    assert own.started_server is not None
    environment = shared_environment(own.started_server, settings, "sha-of-base")
    there = sharing(settings, "sha-of-base", environment)
    assert isinstance(there, VllmSettings)
    assert (there.command, there.rank_limit) == ((), 32)
    assert sharing(settings, "sha-of-another-base", environment) is settings
    other = engine_settings({"kind": "vllm", "command": ["vllm"]})
    assert sharing(other, "sha-of-base", environment) is other
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        shared = open_engine(tiny_model, there)
    try:
        own.load_adapter("adapter-1", str(tiny_adapters["a"]))
        shared.load_adapter("adapter-1", str(tiny_adapters["a"]))
        shared.load_adapter("in-training", str(tiny_adapters["a"]))
        shared.close()
        own.load_adapter("in-training", str(tiny_adapters["b"]))  # another under the same name
        listed = own._pool.first.transport
        roots = {m["id"]: m["root"] for m in listed.wait(listed.get("v1/models"))["data"]}
        assert roots["in-training"] == str(tiny_adapters["b"])
        assert roots["adapter-1"] == str(tiny_adapters["a"])
        assert own.generate([GenerationRequest((5, 6), "adapter-1")])[0].text == "adapter-1 by shared"
        assert starts.read_text() == "shared\n"
    finally:
        shared.close()
        own.close()


def test_the_server_gives_its_own_address_and_starts_what_does_not_run_yet(
    tiny_model: Path, settings: EngineSettings, starts: Path
) -> None:
    base = describe_base(tiny_model, name="tiny")
    bases = BasePool(base, engine_opener(settings))
    try:
        give = engine_for_jobs(bases, settings)
        assert give is not None
        there = sharing(settings, base.sha256, give())
        assert there is not settings
        assert sharing(settings, base.sha256, give()) == there
        assert starts.read_text() == "shared\n"
        assert engine_for_jobs(bases, engine_settings()) is None
        assert engine_for_jobs(bases, engine_settings({"kind": "vllm", "base_url": "http://a/v1"})) is None
    finally:
        bases.close()


@pytest.mark.slow
def test_a_job_is_judged_by_the_server_that_answers(
    tiny_model: Path, workspace: Workspace, settings: EngineSettings, starts: Path
) -> None:
    serving = ServerSettings(
        port=0, base=str(tiny_model), engine=settings, jobs=SupervisorSettings(poll_s=0.05, grace_s=5)
    )
    with live(workspace, tiny_model, settings=serving) as running:
        client = running.client()
        job = wait(client, create(client, training_file(client), suffix="bot").id, "succeeded", seconds=120)
        assert job.fine_tuned_model is not None
        answer = client.chat.completions.create(
            model=job.fine_tuned_model, messages=[{"role": "user", "content": "card"}], max_tokens=4
        )
        assert (answer.choices[0].message.content or "").endswith("by shared")
        assert starts.read_text() == "shared\n"  # once, and not once for the job and once for the request
