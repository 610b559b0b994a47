"""From a job's body to its recipe, and from its record to OpenAI's object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from tunery.api.config import ServerSettings
from tunery.core.errors import ConfigError
from tunery.core.job import Job
from tunery.core.training import Adapter, BaseModelInfo, StepLog
from tunery.pipeline.jobs.files import store_training_file
from tunery.pipeline.jobs.openai_job import (
    JobBody,
    base_spec_of,
    checkpoint_object,
    event_object,
    job_object,
    new_job,
    result_csv,
)
from tunery.pipeline.recipe import Recipe
from tunery.serve.engines.embedded.settings import EmbeddedSettings
from tunery.store.workspace import Workspace
from tunery.train.methods.sft import SftConfig

INFO = BaseModelInfo(name="tiny", sha256="0" * 64, path="/models/tiny", parameters=1)
ROWS = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n' * 12
PAIRS = (
    '{"input":{"messages":[{"role":"user","content":"a"}]},"preferred_output":[{"role":"assistant",'
    '"content":"b"}],"non_preferred_output":[{"role":"assistant","content":"c"}]}\n' * 12
)


def writing(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(text)

    return write


def job_from(workspace: Workspace, **body: Any) -> Job:
    file = store_training_file(workspace, "rows.jsonl", writing(ROWS))
    given = JobBody.model_validate({"model": "tiny", "training_file": file.id, **body})
    return new_job(given, workspace, INFO, base_spec="tiny", submitted_by="key")


def test_what_is_not_named_has_the_recipes_own_defaults(workspace: Workspace) -> None:
    job = job_from(workspace)
    recipe = Recipe.model_validate(job.recipe)
    assert recipe.train == SftConfig()
    assert recipe.name == f"ft-{job.id.removeprefix('ftjob-')}"
    assert recipe.data.sources[0].path.endswith("content.jsonl")
    assert workspace.jobs.find(job.id) is None


def test_auto_is_chosen_by_base_and_rows_unless_a_section_names_a_number(workspace: Workspace) -> None:
    numbers = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": 2.0}
    job = job_from(workspace, hyperparameters=numbers)
    assert Recipe.model_validate(job.recipe).train.auto == ("batch_size", "epochs")
    shown = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": 2.0}
    assert job_object(job)["hyperparameters"] == shown
    named = {"train": {"batch_size": 32, "epochs": "auto", "rank": "auto"}}
    train = Recipe.model_validate(job_from(workspace, hyperparameters=numbers, tunery=named).recipe).train
    assert train.batch_size == 32
    assert train.auto == ("epochs", "rank")
    with pytest.raises(ConfigError, match="epochs is 4, and auto lists it"):
        job_from(workspace, hyperparameters={"n_epochs": 4}, tunery={"train": {"auto": ["epochs"]}})


def test_hyperparameters_become_train_settings_from_either_place(workspace: Workspace) -> None:
    numbers = {"n_epochs": 4, "batch_size": 8, "learning_rate_multiplier": 0.5}
    old = job_from(workspace, hyperparameters=numbers, seed=7)
    new = job_from(
        workspace, method={"type": "supervised", "supervised": {"hyperparameters": numbers}}, seed=7
    )
    for job in (old, new):
        train = Recipe.model_validate(job.recipe).train
        assert (train.epochs, train.batch_size, train.seed) == (4, 8, 7)
        assert train.learning_rate == pytest.approx(SftConfig().learning_rate / 2)
        sent = job_object(job)["hyperparameters"]
        assert sent == {"n_epochs": 4, "batch_size": 8, "learning_rate_multiplier": 0.5}


def test_sections_of_a_recipe_may_come_along(workspace: Workspace) -> None:
    job = job_from(
        workspace,
        suffix="bot",
        hyperparameters={"n_epochs": 2},
        tunery={"goal": {"metric": "perplexity"}, "train": {"rank": 4}, "data": {"system_prompt": "Hi"}},
    )
    recipe = Recipe.model_validate(job.recipe)
    assert (recipe.name, recipe.goal.metric, recipe.data.system_prompt) == ("bot", "perplexity", "Hi")
    assert (recipe.train.rank, recipe.train.epochs) == (4, 2)


def test_the_engine_that_an_operator_chose_to_serve_judges_what_it_will_serve(workspace: Workspace) -> None:
    file = store_training_file(workspace, "rows.jsonl", writing(ROWS))
    body = JobBody(model="tiny", training_file=file.id, tunery={"evaluate": {"limit": 3}})
    terms = ServerSettings.model_validate({"engine": {"dtype": "bfloat16"}}).job_terms
    job = new_job(body, workspace, INFO, base_spec="tiny", submitted_by="key", terms=terms)
    evaluate = Recipe.model_validate(job.recipe).evaluate
    assert (evaluate.limit, evaluate.engine) == (3, EmbeddedSettings(dtype="bfloat16"))
    assert ServerSettings().chosen_engine is None
    assert Recipe.model_validate(job_from(workspace).recipe).evaluate.engine is None


@pytest.mark.parametrize("section", ["base", "name", "data"])
def test_a_job_cannot_name_files_of_the_server(workspace: Workspace, section: str) -> None:
    evil = {"base": "/etc", "name": "x", "data": {"sources": [{"path": "/etc/passwd"}]}}
    with pytest.raises(ConfigError, match="cannot be set by a job"):
        job_from(workspace, tunery={section: evil[section]})


def test_preference_pairs_are_not_trained_on_as_if_they_were_answers(workspace: Workspace) -> None:
    file = store_training_file(workspace, "pairs.jsonl", writing(PAIRS))
    body = JobBody(model="tiny", training_file=file.id)
    with pytest.raises(
        ConfigError, match="holds preference pairs, and supervised fine-tuning learns from answers"
    ):
        new_job(body, workspace, INFO, base_spec="tiny", submitted_by="key")


def test_the_objects_are_what_the_clients_types_say(workspace: Workspace) -> None:
    job = job_from(workspace, metadata={"a": "b"})
    workspace.jobs.add(job)
    FineTuningJob.model_validate(job_object(job), strict=True)
    event = workspace.jobs.add_event(job.id, "hello", data={"step": 1})
    FineTuningJobEvent.model_validate(event_object(event), strict=True)
    point = workspace.jobs.add_checkpoint(job.id, 3, {"train_loss": 1.0, "validation_loss": 2.0})
    sent = checkpoint_object(point, job)
    checked = FineTuningJobCheckpoint.model_validate(sent)
    assert checked.metrics.valid_loss == 2.0
    assert sent["fine_tuned_model_checkpoint"].endswith(":ckpt-step-3")


def test_the_result_file_has_a_row_for_each_logged_step(workspace: Workspace) -> None:
    history = (
        StepLog(step=1, epoch=0.5, train_loss=2.0),
        StepLog(step=2, epoch=1.0, train_loss=1.25, validation_loss=1.5),
    )
    adapter = Adapter(
        id="adapter-0",
        base=INFO,
        dataset_version="ds-0",
        config={},
        sha256="0",
        chat_template_sha256="0",
        system_prompt=None,
        trainable_parameters=1,
        steps=2,
        best_step=2,
        trained_tokens=1,
        seconds=1.0,
        history=history,
        created_at=workspace.clock.now(),
    )
    assert result_csv(adapter) == (
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2,,,\n2,1.25,,1.5,\n"
    )


def test_a_base_is_named_as_given_and_a_folder_by_its_path() -> None:
    assert base_spec_of(INFO, "tiny") == "tiny"
    assert base_spec_of(INFO, "./models/tiny") == "/models/tiny"


@pytest.mark.parametrize(("sent", "shown"), [(None, "null"), (3, "3"), (["dpo"], '["dpo"]')])
def test_a_type_of_method_that_is_no_text_is_refused_with_what_is_expected(sent: Any, shown: str) -> None:
    with pytest.raises(ValueError, match="method") as caught:
        JobBody.model_validate({"model": "tiny", "training_file": "file-1", "method": {"type": sent}})
    assert f"type is {shown}; write dpo or kto or orpo or simpo or supervised, or leave type out" in str(
        caught.value
    )
