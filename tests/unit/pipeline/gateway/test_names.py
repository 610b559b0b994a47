"""Model names, both ways."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.live_api import register
from tests.unit.pipeline.jobs.queued_jobs import add_job

from tunery.api.server import engine_opener
from tunery.core.clock import SystemClock
from tunery.core.engine import GenerationRequest, Sampling
from tunery.core.errors import NotFoundError
from tunery.core.ids import new_id, sha256_file
from tunery.core.training import ADAPTER_WEIGHTS, BaseModelInfo, step_folder
from tunery.model.bases import describe_base
from tunery.pipeline.gateway.bases import BasePool
from tunery.pipeline.gateway.names import (
    UnknownModel,
    answering_steps,
    checkpoint_name,
    ft_name,
    job_of_ft_name,
    resolve,
    version_of,
)
from tunery.store.workspace import Workspace

INFO = BaseModelInfo(name="tiny", sha256="0" * 64, path="/nowhere", parameters=1)


@given(
    base=st.sampled_from(["smollm2-135m-instruct", "Qwen/Qwen3-0.6B", "a.b-c"]),
    suffix=st.none() | st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
)
def test_an_ft_name_leads_back_to_its_job(base: str, suffix: str | None) -> None:
    job_id = new_id("ftjob", SystemClock().now())
    name = ft_name(base, suffix, job_id)
    assert name.startswith(f"ft:{base}:tunery:{suffix or ''}:")
    assert job_of_ft_name(name) == job_id


@pytest.mark.parametrize("name", ["ft:", "ft:a:b", "bot@1", "ft:a:b:c:d:e:f", "ft:a:b:c:UP", "ft:a:b:c:../x"])
def test_other_names_lead_to_no_job(name: str) -> None:
    assert job_of_ft_name(name) is None


def test_an_ft_name_of_a_job_without_a_model_is_unknown(workspace: Workspace) -> None:
    add_job(workspace, id="ftjob-abc", request={"model": "tiny", "training_file": "file-1"})
    for name in ("ft:tiny:tunery::abc", "ft:tiny:tunery:other:abc", "ft:tiny:tunery::zzz"):
        with pytest.raises(UnknownModel) as error:
            resolve(workspace, INFO, name, "someone")
        assert error.value.http_status == 404
        with pytest.raises(NotFoundError):
            version_of(workspace, name)


def test_the_base_answers_to_its_name_alone(workspace: Workspace) -> None:
    target = resolve(workspace, INFO, "tiny", "someone")
    assert (target.base, target.version, target.arm, target.name) == (INFO, None, None, "tiny")
    with pytest.raises(UnknownModel, match="did you mean 'tiny'"):
        resolve(workspace, INFO, "tinny", "someone")


def test_a_kept_checkpoint_answers_by_its_name(
    workspace: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    weights = sha256_file(tiny_adapters["a"] / ADAPTER_WEIGHTS)
    with workspace.artifacts.create("adapters", f"adapter-{weights[:16]}", {}) as folder:
        shutil.copytree(tiny_adapters["a"], folder, dirs_exist_ok=True)
        shutil.copytree(tiny_adapters["b"], step_folder(folder, 7))
    version = register(workspace, tiny_model, tiny_adapters["a"], "bot")
    register(workspace, tiny_model, tiny_adapters["b"], "other")
    job = add_job(workspace, id="ftjob-abc", status="succeeded", model_version=version.ref)
    assert answering_steps(workspace, job) == {1, 7}
    info = describe_base(tiny_model, name="tiny")
    kept = resolve(workspace, info, checkpoint_name(job, 7), "someone")
    assert (kept.name, kept.adapter) == ("bot@1", f"{version.adapter_id}-step-7")
    own = resolve(workspace, info, checkpoint_name(job, 1), "someone")
    assert own == resolve(workspace, info, "bot@1", "someone")
    with pytest.raises(UnknownModel, match="kept are: 1, 7"):
        resolve(workspace, info, checkpoint_name(job, 8), "someone")
    bases = BasePool(info, engine_opener(), max_adapters=4)
    try:
        asked = GenerationRequest((5, 6, 7), kept.adapter, Sampling(max_tokens=8))
        said = bases.get(kept.base).submit(asked, kept.adapter_folder, None).result().token_ids
        other = resolve(workspace, info, "other@1", "someone")
        asked = GenerationRequest((5, 6, 7), other.adapter, Sampling(max_tokens=8))
        assert said == bases.get(other.base).submit(asked, other.adapter_folder, None).result().token_ids
    finally:
        bases.close()
