"""Schemathesis, which reads ``/openapi.json`` and asks what it says can be asked, finds nothing wrong.

It is a program of its own with many dependencies, in the extra ``fuzz``; name another one by
``TUNERY_SCHEMATHESIS``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.live_api import BASE, live, register
from tests.integration.test_api_batches import line, written
from tests.integration.test_api_files import rows
from tunery.api.config import ServerSettings
from tunery.serve.openai.wire import SamplingDefaults
from tunery.store.workspace import Workspace

PROGRAM = os.environ.get("TUNERY_SCHEMATHESIS") or shutil.which("st", path=str(Path(sys.executable).parent))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)
HOOKS = """
import schemathesis

KNOWN = {known!r}

@schemathesis.hook
def map_body(context, body):
    # Two of three requests name what there is, else nothing behind the first look-up would be reached.
    if isinstance(body, dict) and hash(str(body)) % 3:
        for name, value in KNOWN.items():
            if name in body:
                body[name] = value
        body.pop("tools", None) if hash(str(body)) % 2 else None
    return body

@schemathesis.hook
def map_path_parameters(context, parameters):
    if parameters and hash(str(parameters)) % 3:
        for name in parameters:
            parameters[name] = KNOWN.get(name, parameters[name])
    return parameters
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(PROGRAM is None, reason='schemathesis is not installed: pip install -e ".[fuzz]"')
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_schemathesis_finds_nothing(
    seed: int, workspace: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    register(workspace, tiny_model, tiny_adapters["a"], "bot")
    register(workspace, tiny_model, tiny_adapters["b"], "bot")
    workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first")
    settings = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), defaults=SamplingDefaults(max_tokens=8)
    )
    with live(workspace, tiny_model, settings=settings) as server:
        client = server.client()
        file = client.files.create(file=("rows.jsonl", rows(60)), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id, suffix="mine")
        requests = client.files.create(file=("batch.jsonl", written([line(0)])), purpose="batch")
        batch = client.batches.create(
            input_file_id=requests.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        upload = client.uploads.create(bytes=5, filename="a", mime_type="text/jsonl", purpose="batch")
        said = client.completions.create(model="bot", prompt="one", max_tokens=2)
        known = {
            "model": BASE,
            "file_id": file.id,
            "training_file": file.id,
            "job_id": job.id,
            "batch_id": batch.id,
            "input_file_id": requests.id,
            "upload_id": upload.id,
            "completion_id": said.id,
            "request_id": said.id,
            "response_id": client.responses.create(model="bot", input="one", max_output_tokens=2).id,
        }
        hooks = tmp_path / "known.py"
        hooks.write_text(HOOKS.format(known=known), encoding="utf-8")
        done = subprocess.run(
            [
                str(PROGRAM),
                "run",
                f"{server.url}/openapi.json",
                f"--header=Authorization: Bearer {server.secret}",
                f"--checks={','.join(CHECKS)}",
                "--phases=examples,coverage,fuzzing",
                "--max-examples=40",
                f"--seed={seed}",
                "--continue-on-failure",
                "--request-timeout=30",
            ],
            env={**os.environ, "SCHEMATHESIS_HOOKS": "known", "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert server.call("GET", "/health").status == 200
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
