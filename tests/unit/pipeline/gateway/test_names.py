"""Model names, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.pipeline.jobs.queued_jobs import add_job

from tunery.core.clock import SystemClock
from tunery.core.errors import NotFoundError
from tunery.core.ids import new_id
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.names import UnknownModel, ft_name, job_of_ft_name, resolve, version_of
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
