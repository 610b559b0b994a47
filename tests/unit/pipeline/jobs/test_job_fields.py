"""Every field of a job's body is honoured, or refused by its name."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from openai.types.fine_tuning.job_create_params import JobCreateParams
from pydantic import ValidationError

from tunery.pipeline.jobs.openai_job import JobBody

BASE = {"model": "tiny", "training_file": "file-1"}
HYPERPARAMETERS = {"hyperparameters": {"n_epochs": 2}}
WANDB = [{"type": "wandb", "wandb": {"project": "p"}}]


def test_every_parameter_of_the_client_has_a_place() -> None:
    assert set(get_type_hints(JobCreateParams)) | {"tunery"} == set(JobBody.model_fields)


@pytest.mark.parametrize("name", sorted(set(JobBody.model_fields) - set(BASE)))
def test_null_is_taken_for_left_out(name: str) -> None:
    assert JobBody.model_validate({**BASE, name: None}) == JobBody.model_validate(BASE)


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        ({"integrations": WANDB}, ("integrations",), "not served here"),
        ({"trainig_file": "x"}, ("trainig_file",), "did you mean 'training_file'"),
        ({"n_epochs": 3}, ("n_epochs",), "unknown parameter"),
        ({"suffix": None, "epochs": None}, ("epochs",), "unknown parameter"),
        ({"method": {"type": "supervised", "dpo": HYPERPARAMETERS}}, ("method",), "'dpo' is no part"),
        ({"method": {"type": "supervised", "superviced": {}}}, ("method",), "'superviced' is no part"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparams": {}}}},
            ("method", "supervised", "hyperparams"),
            "did you mean 'hyperparameters'",
        ),
        ({"method": {"supervised": HYPERPARAMETERS}, **HYPERPARAMETERS}, (), "not in both places"),
        ({"suffix": "a\0b"}, ("suffix",), "NUL"),
        ({"metadata": {"a": "\0"}}, ("metadata", "a"), "NUL"),
        ({"model": "\ud800"}, ("model",), "half a character"),
        ({"seed": 2**31}, ("seed",), "less than"),
        ({"metadata": {"a": 1}}, ("metadata", "a"), "string"),
    ],
)
def test_what_nobody_reads_is_refused_by_its_name(
    fields: dict[str, Any], place: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ValidationError) as error:
        JobBody.model_validate({**BASE, **fields})
    (found,) = error.value.errors()
    assert found["loc"] == place
    assert says in found["msg"]
