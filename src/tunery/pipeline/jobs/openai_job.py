"""A fine-tuning job as OpenAI's clients write and read it, and the recipe that it means."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from tunery.core.errors import ConfigError, did_you_mean
from tunery.core.ids import check_name, new_id
from tunery.core.job import Job, JobCheckpoint, JobEvent
from tunery.core.training import Adapter, BaseModelInfo
from tunery.gate.check import check_opponents
from tunery.gate.rules import GateConfig, gate_rules
from tunery.pipeline.gateway.names import ORGANIZATION, checkpoint_name, ft_name_of
from tunery.pipeline.jobs.allowed import JobTerms, check_sections, check_size
from tunery.pipeline.jobs.files import open_content
from tunery.pipeline.recipe import parse_recipe
from tunery.serve.engines import EngineSettings
from tunery.serve.openai.wire import Metadata, Name, Wire, unserved
from tunery.store.workspace import Workspace
from tunery.train.config import AUTO, AutoSetting
from tunery.train.methods.method import TrainingMethod
from tunery.train.section import DEFAULT_METHOD, method_named, training_methods

Auto = Literal["auto"]
_HYPERPARAMETERS: Mapping[str, AutoSetting] = {
    "n_epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate_multiplier": "learning_rate",
}
"""OpenAI's names of settings that can be left to ``auto``."""


class Hyperparameters(Wire):
    """OpenAI's three, each ``auto`` or a number, and whichever of its own the training method has."""

    model_config = ConfigDict(extra="allow")

    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] | None = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = (
        "auto"
    )
    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] | None = "auto"


class MethodSettings(Wire):
    """Settings of one method."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(Wire):
    """How to train; one that does not exist is refused with a sentence, not with a list of literals."""

    model_config = ConfigDict(extra="allow")  # settings stand under a key that is the type's name

    type: str = "supervised"
    __pydantic_extra__: dict[str, MethodSettings] = Field(init=False)

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_type(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        known = {method.openai_type for method in training_methods().values()}
        name, expected = values.get("type", "supervised"), " or ".join(sorted(known))
        if not isinstance(name, str):
            raise ValueError(f"type is {json.dumps(name):.40}; write {expected}, or leave type out")
        if name not in known:
            raise ValueError(f"only {expected} training exists here, not {name!r:.40}")
        others = [key for key, value in values.items() if key not in ("type", name) and value is not None]
        if others:
            raise ValueError(f"{others[0]!r:.40} is no part of {name}; its settings stand under {name!r}")
        settings = values.get(name)
        return {"type": name} if settings is None else {"type": name, name: settings}

    @property
    def settings(self) -> MethodSettings | None:
        """What was sent under the type's own name."""
        return self.__pydantic_extra__.get(self.type)


class JobBody(Wire):
    """``POST /fine_tuning/jobs``."""

    model: Annotated[Name, StringConstraints(min_length=1, max_length=512)]
    training_file: Annotated[Name, StringConstraints(min_length=1, max_length=128)]
    validation_file: Annotated[Name, StringConstraints(min_length=1, max_length=128)] | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[Name, StringConstraints(max_length=64)] | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    metadata: Metadata | None = None
    integrations: Annotated[Any, unserved([])] = None
    tunery: dict[str, Any] | None = None
    """Sections of a recipe, such as ``{"goal": {…}, "gate": {…}, "data": {"system_prompt": …}}``."""

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.hyperparameters and self.method and self.method.settings:
            raise ValueError("give hyperparameters in method or beside it, not in both places")
        return self

    @property
    def settings(self) -> Hyperparameters:
        """The hyperparameters, from the method or from their older place."""
        if self.method and self.method.settings:
            return self.method.settings.hyperparameters
        return self.hyperparameters or Hyperparameters()

    @property
    def training_method(self) -> TrainingMethod:
        """The method that the type means, unless ``tunery.train.method`` names another."""
        methods = training_methods()
        named = methods.get(str(self.section("train").get("method")))
        wanted = self.method.type if self.method else methods[DEFAULT_METHOD].openai_type
        return named or next(method for method in methods.values() if method.openai_type == wanted)

    def section(self, name: str) -> Mapping[str, Any]:
        """Return what the body brings of one section of a recipe.

        Raises:
            ConfigError: It is no object.
        """
        given = (self.tunery or {}).get(name) or {}
        if not isinstance(given, Mapping):
            raise ConfigError(f"tunery.{name} is not an object", param=f"tunery.{name}")
        return given


def new_job(
    body: JobBody,
    workspace: Workspace,
    base: BaseModelInfo,
    *,
    base_spec: str,
    submitted_by: str,
    terms: JobTerms | None = None,
) -> Job:
    """Return the job that a body describes, its recipe checked as a whole, not yet stored.

    Args:
        base: The base that the server serves, the only one a client may name.
        base_spec: How a recipe names that base.
        submitted_by: Name of the client's key.
        terms: What the operator lays down.

    Raises:
        ConfigError: The model or a setting is wrong, or no model could come of it.
        NotFoundError: No such file.
    """
    terms = terms or JobTerms()
    if body.model != base.name:
        raise ConfigError(
            f"model {body.model!r:.80} is not a base model that can be trained here; there is: {base.name}",
            param="model",
        )
    now = workspace.clock.now()
    job_id = new_id("ftjob", now)
    recipe = parse_recipe(
        {
            "name": model_name(body.suffix, job_id),
            "base": base_spec,
            "goal": {},
            **_sections(body, terms.engine),
            "data": _data(body, workspace),
            "train": {**_train(body), **body.section("train")},
        },
        where="fine-tuning job",
    )
    check_size(recipe, terms.limits)
    own_rules = bool(body.section("gate").get("rules"))
    if terms.floor:
        if recipe.evaluate.limit is not None:
            raise ConfigError(
                "evaluate.limit would choose how many rows this server's own rules look at; leave it out",
                param="tunery.evaluate.limit",
            )
        rules = dict.fromkeys((*gate_rules(recipe.goal, recipe.gate), *terms.floor))
        recipe = recipe.model_copy(update={"gate": GateConfig(rules=tuple(rules))})
    check_opponents(
        gate_rules(recipe.goal, recipe.gate),
        baselines=recipe.evaluate.baseline.subjects,
        suites=(),
        start=recipe.train.start_from is not None,
    )
    return Job(
        id=job_id,
        kind="run",
        status="queued",
        recipe=recipe.model_dump(mode="json"),
        request=request_of(body),
        created_at=now,
        submitted_by=submitted_by,
        # Who asked for no rules wants a model, as OpenAI gives one, and the verdict beside it.
        keep_refused=not own_rules and not terms.floor,
    )


def request_of(body: JobBody) -> dict[str, Any]:
    """Return what is stored of a body, and what a repeated request is recognised by."""
    return body.model_dump(mode="json", exclude_none=True)


def model_name(suffix: str | None, job_id: str) -> str:
    """Return the registry's name for a job's model; without a suffix every job has its own.

    Raises:
        ConfigError: The suffix cannot be part of a name.
    """
    if not suffix:
        return f"ft-{job_id.removeprefix('ftjob-')}"
    try:
        return check_name(suffix, "suffix")
    except ConfigError as error:
        raise ConfigError(error.message, param="suffix") from None


def _data(body: JobBody, workspace: Workspace) -> dict[str, Any]:
    method = body.training_method
    sources = [_source(workspace, body.training_file, "training_file", method)]
    if body.validation_file:
        if body.validation_file == body.training_file:
            raise ConfigError(
                "validation_file is the training file: what is trained on validates nothing",
                param="validation_file",
            )
        held_out = _source(workspace, body.validation_file, "validation_file", method)
        sources.append({**held_out, "split": "validation"})
    return {**body.section("data"), "sources": sources}


def _source(workspace: Workspace, file_id: str, param: str, method: TrainingMethod) -> dict[str, Any]:
    file = workspace.files.find(file_id)
    if file is None:
        known = [f.id for f in workspace.files.list(limit=1_000, purpose="fine-tune")]
        raise ConfigError(
            f"{param} {file_id!r:.80} does not exist{did_you_mean(file_id, known)}", param=param
        )
    if file.purpose != "fine-tune":
        raise ConfigError(f"{param} {file.id} has purpose {file.purpose!r}, not 'fine-tune'", param=param)
    pairs = workspace.artifacts.about("files", file.id).get("shape") == "preference"
    if pairs != method.learns_preferences:
        holds = "preference pairs" if pairs else "chat or completion rows"
        raise ConfigError(
            f"{param} {file.id} holds {holds}, and {method.title} learns from {method.takes}", param=param
        )
    return {"path": str(open_content(workspace, file.id)), "format": "jsonl"}


_NO_SUITES = "a fine-tuning job is measured on its own rows alone"


def _sections(body: JobBody, engine: EngineSettings | None) -> dict[str, Any]:
    check_sections(body.tunery or {})
    sections = {k: v for k, v in (body.tunery or {}).items() if v is not None}
    evaluate = {"suites_off": _NO_SUITES, **body.section("evaluate")} | ({"engine": engine} if engine else {})
    return {**sections, "evaluate": evaluate}


def _train(body: JobBody) -> dict[str, Any]:
    settings, method = body.settings, body.training_method
    train: dict[str, Any] = {"method": method.name}
    train |= {ours: AUTO for theirs, ours in _HYPERPARAMETERS.items() if _is_auto(settings, theirs)}
    if isinstance(settings.n_epochs, int):
        train["epochs"] = settings.n_epochs
    if isinstance(settings.batch_size, int):
        train["batch_size"] = settings.batch_size
    if isinstance(settings.learning_rate_multiplier, float):
        train["learning_rate"] = method.defaults.learning_rate * settings.learning_rate_multiplier
    if body.seed is not None:
        train["seed"] = body.seed
    extra = settings.model_extra or {}
    given = {k: v for k, v in extra.items() if v not in (None, "auto")}
    for name in given:
        if name not in method.own_settings:
            known = ("n_epochs", "batch_size", "learning_rate_multiplier", *sorted(method.own_settings))
            raise ConfigError(
                f"hyperparameters.{name} is none of {method.title}'s{did_you_mean(name, known)} "
                f"(known: {', '.join(known)}; all others go into tunery.train)",
                param=f"hyperparameters.{name}",
            )
    return {**given, **train}


def _is_auto(settings: Hyperparameters, name: str) -> bool:
    """Tell whether a client left a hyperparameter to ``auto`` in so many words."""
    return name in settings.model_fields_set and getattr(settings, name) == AUTO


def job_object(job: Job) -> dict[str, Any]:
    """Return OpenAI's job object."""
    train = job.recipe.get("train", {})
    # A job of a method whose file is gone is shown as one of the default method.
    method = method_named(train.get("method")) or training_methods()[DEFAULT_METHOD]
    multiplier = train.get("learning_rate", 0.0) / method.defaults.learning_rate
    numbers = {
        "n_epochs": _whole(train.get("epochs")),
        "batch_size": train.get("batch_size"),
        "learning_rate_multiplier": round(multiplier, 6),
    }
    open_ = train.get("auto", ())
    hyperparameters = {name: AUTO if _HYPERPARAMETERS[name] in open_ else n for name, n in numbers.items()}
    own = {name: train[name] for name in sorted(method.own_settings) if name in train}
    registered = job.status == "succeeded" and job.model_version is not None
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": _unix(job.created_at),
        "finished_at": _unix(job.finished_at),
        "estimated_finish": None,
        "model": job.request.get("model") or job.recipe.get("base", ""),
        "fine_tuned_model": ft_name_of(job) if registered else None,
        "organization_id": ORGANIZATION,
        "result_files": list(job.result_files),
        "seed": train.get("seed", 0),
        "status": job.status,
        # A job that came from the command line was given no uploaded file.
        "training_file": job.request.get("training_file", ""),
        "validation_file": job.request.get("validation_file"),
        "hyperparameters": hyperparameters,
        "method": {
            "type": method.openai_type,
            method.openai_type: {"hyperparameters": {**hyperparameters, **own}},
        },
        "integrations": [],
        "metadata": job.request.get("metadata"),
        "trained_tokens": job.trained_tokens,
        "error": job.error,
    }


def event_object(event: JobEvent) -> dict[str, Any]:
    """Return OpenAI's event object."""
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": _unix(event.created_at),
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": dict(event.data),
    }


def checkpoint_object(checkpoint: JobCheckpoint, job: Job) -> dict[str, Any]:
    """Return OpenAI's checkpoint object; its metrics keep their names there, where there is one."""
    names = {"validation_loss": "valid_loss"}
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": _unix(checkpoint.created_at),
        "fine_tuned_model_checkpoint": checkpoint_name(job, checkpoint.step_number),
        "fine_tuning_job_id": job.id,
        "step_number": checkpoint.step_number,
        "metrics": {
            "step": checkpoint.step_number,
            **{names.get(k, k): v for k, v in checkpoint.metrics.items()},
        },
    }


def result_csv(adapter: Adapter) -> str:
    """Return the steps of a training as the CSV that a job's result file holds.

    Plain text, where OpenAI's cookbook decodes base64 first. Accuracies are not measured during training and
    their columns stay empty.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"))
    for log in adapter.history:
        writer.writerow((log.step, _number(log.train_loss), "", _number(log.validation_loss), ""))
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def base_spec_of(base: BaseModelInfo, spec: str) -> str:
    """Return how a job's recipe names the served base: as given, but a folder by its whole path."""
    return spec if spec == base.name and base.chat_template is None else str(Path(base.path))
