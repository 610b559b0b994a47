"""Fine-tuning jobs through the unmodified client, trained for real on the tiny model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.integration.live_api import BASE, Live, live
from tests.integration.test_api_surface import is_error, unused
from tunery.api.config import ServerSettings
from tunery.core.errors import ConflictError
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.jobs.run import run_job
from tunery.pipeline.jobs.supervisor import SupervisorSettings
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import parse_recipe
from tunery.store.workspace import Workspace

OPEN_GATE = {
    "goal": {"metric": "perplexity"},
    "gate": {"rules": [{"metric": "perplexity", "at_most": 1e30}]},
    "evaluate": {"max_new_tokens": 4, "baseline": {"few_shot": False, "constrained": False}},
    "train": {"rank": 2, "validation_every": 2, "threads": 1},
}


def training_file(client: OpenAI, count: int = 40) -> str:
    words = ["card arrival", "top up failed"]
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"question number {i} about {words[i % 2]} and {i * i}"},
                {"role": "assistant", "content": words[i % 2]},
            ]
        }
        for i in range(count)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return client.files.create(file=("train.jsonl", content), purpose="fine-tune").id


def create(client: OpenAI, file_id: str, **more: Any) -> FineTuningJob:
    given: dict[str, Any] = {
        "model": BASE,
        "training_file": file_id,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}}},
        "extra_body": {"tunery": OPEN_GATE},
    }
    return client.fine_tuning.jobs.create(**{**given, **more})


def wait(client: OpenAI, job_id: str, *statuses: str, seconds: float = 60) -> FineTuningJob:
    deadline = time.monotonic() + seconds
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in statuses:
            return job
        assert job.status not in {"failed", "succeeded", "cancelled"}, (job.status, job.error)
        assert time.monotonic() < deadline, f"{job.status} after {seconds} s: {messages(client, job_id)}"
        time.sleep(0.1)


def never_stop() -> bool:
    return False


def messages(client: OpenAI, job_id: str) -> list[str]:
    """Oldest first."""
    return [e.message for e in client.fine_tuning.jobs.list_events(job_id, limit=100)][::-1]


@pytest.fixture
def idle(workspace: Workspace, tiny_model: Path) -> Iterator[Live]:
    """A server that queues jobs and runs none."""
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=settings, open_base=unused) as running:
        yield running


@pytest.fixture
def working(workspace: Workspace, tiny_model: Path) -> Iterator[Live]:
    """A server that runs jobs."""
    jobs = SupervisorSettings(poll_s=0.05, grace_s=5)
    with live(
        workspace, tiny_model, settings=ServerSettings(port=0, base=str(tiny_model), jobs=jobs)
    ) as running:
        yield running


@pytest.fixture
def answering(workspace: Workspace, tiny_model: Path) -> Iterator[Live]:
    """A server that queues jobs and answers by the models that come of them."""
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=settings) as running:
        yield running


def test_a_job_trains_a_model_that_answers(answering: Live) -> None:
    client, workspace = answering.client(), answering.workspace
    file_id = training_file(client)
    made = create(client, file_id, suffix="card-bot", seed=3, metadata={"team": "cards"})
    assert made.status == "queued"
    assert workspace.jobs.claim("here", 60) is not None
    assert run_job(workspace, made.id, "here", never_stop)
    job = client.fine_tuning.jobs.retrieve(made.id)
    assert (job.status, job.error) == ("succeeded", None)
    assert job.fine_tuned_model == f"ft:{BASE}:tunery:card-bot:{job.id.removeprefix('ftjob-')}"
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size, job.seed) == (2, 8, 3)
    assert job.trained_tokens
    assert job.finished_at
    assert job.metadata == {"team": "cards"}

    told = messages(client, job.id)
    canonical = [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {file_id}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    assert [m for m in told if m in canonical] == canonical
    assert told[-1] == canonical[-1]
    metrics = [e for e in client.fine_tuning.jobs.list_events(job.id, limit=100) if e.type == "metrics"]
    assert metrics
    steps = [e.data["step"] for e in metrics if "train_loss" in e.data]  # type: ignore[index, operator]
    assert steps == sorted(steps, reverse=True)
    assert any("valid_loss" in e.data for e in metrics)  # type: ignore[operator]
    assert all(e.data["total_steps"] == metrics[0].data["total_steps"] for e in metrics)  # type: ignore[index]

    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert checkpoints[0].metrics.valid_loss is not None
    for checkpoint in checkpoints:
        name = checkpoint.fine_tuned_model_checkpoint
        assert name == f"{job.fine_tuned_model}:ckpt-step-{checkpoint.step_number}"
        asked = [{"role": "user", "content": "about card arrival"}]
        said = client.chat.completions.create(model=name, messages=asked, max_tokens=2)  # type: ignore[arg-type, list-item]
        assert said.model == name
        with pytest.raises(openai.NotFoundError, match="no checkpoint of step 12345"):
            client.models.retrieve(f"{job.fine_tuned_model}:ckpt-step-12345")

    result = client.files.content(job.result_files[0]).read().decode()
    assert result.splitlines()[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert len(result.splitlines()) > 2
    assert client.files.retrieve(job.result_files[0]).purpose == "fine-tune-results"

    answer = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=[{"role": "user", "content": "about card arrival"}],
        max_tokens=4,
    )
    assert answer.model == job.fine_tuned_model
    assert answer.usage.completion_tokens > 0  # type: ignore[union-attr]
    assert client.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model
    assert {"card-bot", "card-bot@1", "card-bot@champion", job.fine_tuned_model} <= {
        m.id for m in client.models.list()
    }
    assert client.models.delete(job.fine_tuned_model).deleted  # the only version: its aliases go too
    assert {m.id for m in client.models.list()} == {BASE}
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(job.fine_tuned_model)


def test_a_job_of_type_dpo_learns_from_openais_preference_file_and_answers(answering: Live) -> None:
    client, workspace = answering.client(), answering.workspace
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"question number {i} about {i * i}"}]},
            "preferred_output": [{"role": "assistant", "content": "card arrival"}],
            "non_preferred_output": [{"role": "assistant", "content": f"top up {i % 3} failed"}],
        }
        for i in range(40)
    ]
    content = "".join(json.dumps(pair) + "\n" for pair in pairs).encode()
    file_id = client.files.create(file=("pairs.jsonl", content), purpose="fine-tune").id
    numbers = {"beta": 0.2, "n_epochs": 1, "batch_size": 8, "learning_rate_multiplier": 2.0}
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": numbers}}
    made = create(client, file_id, method=method)
    assert workspace.jobs.claim("here", 60) is not None
    assert run_job(workspace, made.id, "here", never_stop)
    job = client.fine_tuning.jobs.retrieve(made.id)
    assert job.status == "succeeded", job.error
    assert job.method is not None
    assert job.method.type == "dpo"
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    asked: Any = [{"role": "user", "content": "question number 3 about 9"}]
    answer = client.chat.completions.create(model=job.fine_tuned_model or "", messages=asked, max_tokens=4)
    assert answer.model == job.fine_tuned_model
    assert answer.choices[0].message.content


@pytest.mark.slow
def test_a_jobs_model_is_deleted_by_its_client_and_can_be_made_again(working: Live) -> None:
    client = working.client()
    file_id = training_file(client)
    made = wait(client, create(client, file_id, suffix="card-bot", seed=3).id, "succeeded", seconds=120)
    model = made.fine_tuned_model
    assert model is not None
    ask = [{"role": "user", "content": "where is my card"}]
    client.chat.completions.create(model=model, messages=ask, max_tokens=1)
    assert client.models.delete(model).deleted
    assert {m.id for m in client.models.list()} == {BASE}
    for call in (
        lambda: client.models.retrieve(model),
        lambda: client.models.delete(model),
        lambda: client.chat.completions.create(model=model, messages=ask, max_tokens=1),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    for file in (file_id, *made.result_files):
        assert client.files.delete(file).deleted
    again = create(client, training_file(client), suffix="card-bot", seed=3)
    model = wait(client, again.id, "succeeded", seconds=120).fine_tuned_model
    assert model is not None
    assert client.chat.completions.create(model=model, messages=ask, max_tokens=1).model == model


def test_a_refused_model_fails_its_job_with_the_gates_sentence(idle: Live) -> None:
    client, workspace = idle.client(), idle.workspace
    never = {**OPEN_GATE, "gate": {"rules": [{"metric": "perplexity", "at_most": 1e-9}]}}
    made = create(client, training_file(client), extra_body={"tunery": never})
    assert workspace.jobs.claim("here", 60) is not None
    assert run_job(workspace, made.id, "here", never_stop)
    job = client.fine_tuning.jobs.retrieve(made.id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "gate_failed"
    assert "perplexity" in job.error.message
    assert job.fine_tuned_model is None
    assert job.result_files
    assert not any("New fine-tuned model" in m for m in messages(client, job.id))


def test_a_plain_job_gets_its_model_even_where_nothing_shows_that_it_is_better(idle: Live) -> None:
    client, workspace = idle.client(), idle.workspace
    made = client.fine_tuning.jobs.create(
        model=BASE, training_file=training_file(client, 14), hyperparameters={"n_epochs": 1}, suffix="first"
    )
    assert workspace.jobs.claim("here", 60) is not None
    assert run_job(workspace, made.id, "here", never_stop)
    job = client.fine_tuning.jobs.retrieve(made.id)
    assert (job.status, job.error) == ("succeeded", None)
    assert job.fine_tuned_model == f"ft:{BASE}:tunery:first:{job.id.removeprefix('ftjob-')}"
    version = workspace.models.get("first", 1)
    assert not version.gate_passed
    assert workspace.models.aliases("first") == {}
    warned = [e.message for e in client.fine_tuning.jobs.list_events(made.id, limit=100) if e.level == "warn"]
    assert any("The gate did not hold" in m and "first@1" in m and "required" in m for m in warned), warned
    served = {m.id for m in client.models.list()}
    assert {"first@1", job.fine_tuned_model} <= served
    assert "first" not in served


def test_what_is_left_to_auto_is_auto_until_it_is_chosen(idle: Live) -> None:
    client, workspace = idle.client(), idle.workspace
    numbers: Any = {"n_epochs": 1, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    made = client.fine_tuning.jobs.create(
        model=BASE, training_file=training_file(client, 14), hyperparameters=numbers, suffix="open"
    )
    shown = made.hyperparameters
    assert (shown.n_epochs, shown.batch_size, shown.learning_rate_multiplier) == (1, "auto", "auto")
    assert workspace.jobs.claim("here", 60) is not None
    assert run_job(workspace, made.id, "here", never_stop)
    shown = client.fine_tuning.jobs.retrieve(made.id).hyperparameters
    assert (shown.n_epochs, shown.batch_size) == (1, 4)
    assert isinstance(shown.learning_rate_multiplier, float)
    assert any("auto chose batch_size 4, learning_rate" in m for m in messages(client, made.id))


def test_no_key_makes_versions_of_another_keys_model(idle: Live) -> None:
    client, workspace = idle.client(), idle.workspace
    file_id = training_file(client)
    create(client, file_id, suffix="mine")
    create(client, file_id, suffix="mine", seed=2)
    other = client.with_options(api_key=workspace.keys.create("mallory").secret)
    with pytest.raises(openai.PermissionDeniedError) as caught:
        create(other, file_id, suffix="mine")
    assert caught.value.param == "suffix"
    create(other, file_id, suffix="theirs")
    create(other, file_id)


@pytest.mark.parametrize("section", ["train", "evaluate", "gate", "data", "goal", "deploy"])
def test_a_section_that_is_no_object_is_refused_by_name(idle: Live, section: str) -> None:
    client = idle.client()
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, training_file(client), extra_body={"tunery": {section: "x"}})
    assert caught.value.param == f"tunery.{section}"


def test_a_running_job_is_cancelled_and_a_waiting_one_at_once(idle: Live) -> None:
    client, workspace = idle.client(), idle.workspace
    file_id = training_file(client)
    long = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 100, "batch_size": 2}}}
    first = create(client, file_id, method=long)
    second = create(client, file_id)
    claimed = workspace.jobs.claim("here", 60)
    assert claimed is not None
    assert claimed.id == first.id
    assert client.fine_tuning.jobs.cancel(second.id).status == "cancelled"

    def cancel_once_it_trains() -> bool:
        # Asked between two steps, as the worker's signal handler is.
        if client.fine_tuning.jobs.retrieve(first.id).status == "running" and any(
            m.startswith("Step ") for m in messages(client, first.id)
        ):
            assert client.fine_tuning.jobs.cancel(first.id).status in {"running", "cancelled"}
        return False

    assert run_job(workspace, first.id, "here", cancel_once_it_trains)
    assert client.fine_tuning.jobs.retrieve(first.id).finished_at
    for job in (first, second):
        assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
        assert messages(client, job.id).count("The job was cancelled") == 1
    assert workspace.models.names() == []
    with pytest.raises(openai.ConflictError):
        client.with_options(max_retries=2).fine_tuning.jobs.pause(first.id)


def test_an_interrupted_job_goes_on_where_it_was_and_tells_nothing_twice(idle: Live) -> None:
    client, workspace = idle.client(), idle.workspace
    made = create(client, training_file(client), suffix="card-bot")
    assert workspace.jobs.claim("first", 60) is not None

    def after_some_steps() -> bool:
        return bool(workspace.jobs.checkpoints(made.id).items)

    assert not run_job(workspace, made.id, "first", after_some_steps)
    assert client.fine_tuning.jobs.retrieve(made.id).status == "running"
    before = messages(client, made.id)
    assert workspace.jobs.put_back(made.id, "first", counts=False)
    assert workspace.jobs.claim("second", 60) is not None
    assert run_job(workspace, made.id, "second", never_stop)
    told = messages(client, made.id)
    assert told[: len(before)] == before
    assert len(set(told)) == len(told)
    assert client.fine_tuning.jobs.retrieve(made.id).status == "succeeded"
    assert [v.ref for v in workspace.models.list("card-bot")] == ["card-bot@1"]
    with pytest.raises(ConflictError):
        workspace.jobs.finish(made.id, "first", "failed")


def test_a_paused_job_stops_at_a_step_and_goes_on_there_when_it_is_resumed(idle: Live) -> None:
    client, workspace = idle.client(), idle.workspace
    made = create(client, training_file(client), suffix="card-bot")
    assert client.fine_tuning.jobs.pause(made.id).status == "paused"  # type: ignore[comparison-overlap]
    assert workspace.jobs.claim("first", 60) is None
    with pytest.raises(openai.ConflictError, match="needed by job"):
        client.files.delete(made.training_file)
    assert client.fine_tuning.jobs.resume(made.id).status == "queued"
    assert workspace.jobs.claim("first", 60) is not None

    def pause_once_it_trains() -> bool:
        if workspace.jobs.checkpoints(made.id).items and not workspace.jobs.get(made.id).pause_requested:
            assert client.fine_tuning.jobs.pause(made.id).status == "running"
            time.sleep(1)  # a worker looks up once in this time whether it is to stop
        return False

    assert not run_job(workspace, made.id, "first", pause_once_it_trains)
    assert workspace.jobs.put_back(made.id, "first", counts=False)  # as the supervisor does
    paused = client.fine_tuning.jobs.retrieve(made.id)
    assert (paused.status, paused.finished_at) == ("paused", None)
    assert workspace.jobs.claim("second", 60) is None
    assert messages(client, made.id)[-1].startswith("The job was paused")
    assert client.fine_tuning.jobs.resume(made.id).status == "queued"
    assert workspace.jobs.claim("second", 60) is not None
    assert run_job(workspace, made.id, "second", never_stop)
    told = messages(client, made.id)
    assert any(m.startswith("continuing from step") for m in told)
    assert client.fine_tuning.jobs.retrieve(made.id).status == "succeeded"
    for refused in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.ConflictError, match="succeeded"):
            refused(made.id)


def test_a_job_waits_for_another_process_at_the_same_work(
    idle: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunery.pipeline.jobs.run.BUSY_POLL_S", 0.1)
    client, workspace = idle.client(), idle.workspace
    made = create(client, training_file(client))
    assert workspace.jobs.claim("here", 60) is not None
    recipe = parse_recipe(workspace.jobs.get(made.id).recipe, where="here")
    training = threading.Event()

    def hold(step: int, losses: Mapping[str, float]) -> None:
        training.set()
        deadline = time.monotonic() + 60
        while not any(m.startswith("Waiting: ") for m in messages(client, made.id)):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with ThreadPoolExecutor(1) as pool:
        context = RunContext(recipe, workspace, Path.cwd(), Silent(), on_checkpoint=hold)
        run = pool.submit(run_recipe, context)
        assert training.wait(60)
        assert run_job(workspace, made.id, "here", never_stop)
        assert run.result().status == "succeeded"
    assert client.fine_tuning.jobs.retrieve(made.id).status == "succeeded"
    assert len(workspace.models.names()) == 1


def test_what_cannot_be_trained_is_refused_with_the_field(idle: Live) -> None:
    client = idle.client()
    file_id = training_file(client)
    refusals: list[tuple[dict[str, Any], str, str]] = [
        ({"model": "gpt-9"}, "model", "there is: tiny-llama"),
        ({"model": "/etc"}, "model", "is not a base model"),
        ({"training_file": "file-none"}, "training_file", "does not exist"),
        ({"training_file": "../../etc/passwd"}, "training_file", "does not exist"),
        ({"method": {"type": "dpo"}}, "training_file", "holds chat or completion rows"),
        ({"method": {"type": "reinforcement"}}, "method", "supervised training exists here"),
        ({"suffix": "No/Good"}, "suffix", "not usable"),
        ({"validation_file": file_id}, "validation_file", "is the training file"),
        ({"validation_file": "file-none"}, "validation_file", "does not exist"),
        ({"extra_body": {"tunery": {"traim": {}}}}, "tunery", "did you mean 'train'"),
        ({"extra_body": {"tunery": {"data": {"sources": []}}}}, "tunery.data", "sources"),
        ({"extra_body": {"tunery": {"train": {"learning_rate": -1}}}}, "", "train.learning_rate"),
        (
            {"extra_body": {"tunery": {"evaluate": {"suites": {"x": {"source": {"path": "/etc/passwd"}}}}}}},
            "tunery.evaluate",
            "names files",
        ),
        (
            {"extra_body": {"tunery": {"evaluate": {"engine": {"threads": 99}}}}},
            "tunery.evaluate",
            "the server's choice",
        ),
        ({"extra_body": {"tunery": {"evaluate": ["x"]}}}, "tunery.evaluate", "not an object"),
        ({"extra_body": {"tunery": {"train": "fast"}}}, "tunery.train", "not an object"),
    ]
    for change, param, says in refusals:
        with pytest.raises(openai.BadRequestError) as error:
            create(client, file_id, **change)
        assert says in error.value.message, change
        assert (error.value.param or "").startswith(param), change
    assert list(client.fine_tuning.jobs.list()) == []


def test_a_validation_file_becomes_the_validation_split(idle: Live) -> None:
    client = idle.client()
    made = create(client, training_file(client), validation_file=training_file(client, count=12))
    assert made.validation_file is not None
    first, second = idle.workspace.jobs.get(made.id).recipe["data"]["sources"]
    assert first["split"] == "auto"
    assert second["split"] == "validation"
    assert f" and validation file: {made.validation_file}" in messages(client, made.id)[1]


def test_jobs_are_listed_newest_first_in_pages_and_by_metadata(idle: Live) -> None:
    client = idle.client()
    file_id = training_file(client)
    made = [create(client, file_id, metadata={"n": str(i % 2)}).id for i in range(4)]
    bare = create(client, file_id).id
    listed = client.fine_tuning.jobs.list(limit=2)
    assert listed.has_more
    assert [j.id for j in listed] == [bare, *made[::-1]]
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"n": "0"})] == [made[2], made[0]]
    with idle.http() as http:
        none = http.get("/v1/fine_tuning/jobs?metadata=null").json()
    assert [j["id"] for j in none["data"]] == [bare]
    events = client.fine_tuning.jobs.list_events(bare, limit=1)
    assert [e.message for e in events][::-1] == messages(client, bare)
    with pytest.raises(openai.ConflictError, match="is needed by job"):
        client.files.delete(file_id)


class Deaf(httpx2.HTTPTransport):
    """A network that delivers the first request and loses its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if not self.lost and request.url.path.endswith("/fine_tuning/jobs"):
            self.lost = True
            response.close()
            raise httpx2.ReadTimeout("the answer was lost", request=request)
        return response


def test_a_clients_own_retry_gets_the_job_that_its_first_try_made(idle: Live) -> None:
    network = Deaf()
    client = OpenAI(
        base_url=f"{idle.url}/v1",
        api_key=idle.secret,
        max_retries=2,
        http_client=httpx2.Client(transport=network, base_url=f"{idle.url}/v1"),
    )
    idle.opened.append(client)
    file_id = training_file(client)
    made = create(client, file_id)
    assert network.lost
    assert [j.id for j in client.fine_tuning.jobs.list()] == [made.id]
    assert messages(client, made.id).count(f"Created fine-tuning job: {made.id}") == 1


def test_only_a_retry_of_the_same_body_by_the_same_key_is_taken_for_one(idle: Live) -> None:
    client = idle.client()
    file_id = training_file(client)
    retry = {"x-stainless-retry-count": "1"}
    first, second = create(client, file_id), create(client, file_id)
    assert first.id != second.id
    assert create(client, file_id, extra_headers=retry).id == second.id
    other = create(client, file_id, seed=9, extra_headers=retry)
    stranger = idle.client(key=idle.workspace.keys.create("stranger").secret)
    theirs = create(stranger, file_id, extra_headers=retry)
    assert len({first.id, second.id, other.id, theirs.id}) == 4


def test_unknown_jobs_are_404(idle: Live) -> None:
    client = idle.client()
    for call in (
        client.fine_tuning.jobs.retrieve,
        client.fine_tuning.jobs.cancel,
        lambda i: list(client.fine_tuning.jobs.list_events(i)),
        lambda i: list(client.fine_tuning.jobs.checkpoints.list(i)),
    ):
        with pytest.raises(openai.NotFoundError):
            call("ftjob-none")
    with idle.http() as http:
        is_error(http.get("/v1/fine_tuning/jobs?after=ftjob-none"), 404)
