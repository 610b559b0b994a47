"""What a job that comes over the API may set, and how large it may be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.errors import ConfigError, did_you_mean
from tunery.gate.rules import GateRule
from tunery.model.chat_templates import NAMES
from tunery.pipeline.recipe import Recipe
from tunery.serve.engines import EngineSettings
from tunery.train.config import AUTO_BOUNDS

_BY_GROUP: Mapping[str, str] = {
    "goal": "metric target min_gain_over_prompting",
    "data": "strict system_prompt labels max_tokens",
    "data.clean": (
        "normalise fix_mojibake strip_html mask_pii pii_types pii_policy pii_seed "
        "exact_duplicates near_duplicates near_threshold group_threshold"
    ),
    "data.filters.length": "min_input_chars max_input_chars min_output_chars max_output_chars",
    "data.split": "test validation seed assign stratify by_time",
    "train": (
        "method auto adapter quantization rank alpha dropout target_modules lora_plus_ratio learning_rate "
        "epochs "
        "batch_size micro_batch_size micro_batch_tokens gradient_checkpointing warmup_ratio schedule "
        "weight_decay max_grad_norm "
        "validation_every divergence_factor early_stopping keep generate_rows best_by smoke seed dtype "
        "threads loss_on prompt_loss_weight neftune_alpha "
        "beta loss_type label_smoothing sft_weight gamma desirable_weight undesirable_weight"
    ),
    "evaluate": "metrics max_new_tokens limit perplexity_limit seed json_schema fields rows_per_batch "
    "repeats pass_k temperature "
    "bleu_tokenizer confidence max_error pattern sql_schema",
    "evaluate.baseline": (
        "zero_shot few_shot few_shot_retrieved tfidf shots max_shot_tokens constrained system_prompt "
        "perplexity seed"
    ),
    "gate": "rules",
    "deploy.canary": (
        "percent horizon_requests horizon_hours on_horizon min_requests alpha "
        "max_error_rate_increase max_format_invalid_increase max_dislike_increase "
        "max_latency_p95_ratio"
    ),
}
_ALONE = frozenset({"chat_template"})
"""Settings that stand in no group."""
MAY_SET = _ALONE | {f"{group}.{name}" for group, names in _BY_GROUP.items() for name in names.split()}
"""Settings of a recipe that a job may bring, as dotted paths. Whatever is not here is refused, a new setting
too, until somebody has thought about what a stranger could do with it."""

_GROUPS = frozenset(
    ".".join(parts[:depth])
    for parts in (group.split(".") for group in _BY_GROUP)
    for depth in range(1, len(parts) + 1)
)
"""What holds settings, or groups of them."""
_OPEN_GROUPS = ("train.", "data.filters.")
"""Where further methods and filters have settings of their own: numbers and switches are taken there, since
neither can name a place on the server."""

THE_SERVERS: Mapping[str, str] = {
    "name": "it is the suffix",
    "description": "it is the operator's",
    "base": "it is the model",
    "inspect": "it is for recipes only",
    "track": "it is the operator's",
    "data.sources": "the rows are those of training_file and validation_file",
    "data.engine": "it is the server's choice",
    "data.edits": "it names files",
    "data.select": "it names scores of the server's",
    "data.clean.pii_mapping": "it names a file",
    "train.device": "it is the server's choice",
    "train.engine": "it is the server's choice",
    "train.workers": "it is the server's choice",
    "train.sharding": "it is the server's choice",
    "train.start_from": "it is for recipes only",
    "train.modules_to_save": "it is for recipes only",
    "train.merge": "it is for recipes only",
    "evaluate.engine": "it is the server's choice",
    "evaluate.arms": "it names files, addresses and keys",
    "evaluate.price_per_hour": "it is the operator's",
    "evaluate.suites": "it names files",
    "evaluate.memorised": "it is the operator's",
    "train.canaries": "it is for recipes only",
    "train.keep_checkpoints": "it takes the server's disk",
    "evaluate.suites_off": "it is the operator's",
    "evaluate.benchmarks": "it names folders",
    "evaluate.slices": "it is the operator's",
    "evaluate.graders": "it runs code",
    "evaluate.judge": "it sends rows to an address, at a price",
    "gate.alpha": "it is the operator's",
}
"""Settings, or groups of them, that a job may not bring, each with the reason."""


class JobLimits(Settings):
    """How large a job that comes over the API may be."""

    epochs: float = Field(default=100, gt=0)
    """Passes over the training rows at most."""
    rank: int = Field(default=256, ge=1)
    """LoRA rank at most."""
    batch_size: int = Field(default=1024, ge=1)
    """Examples per optimizer step at most [count]."""
    micro_batch_size: int = Field(default=256, ge=1)
    """Examples per forward at most [count]."""
    micro_batch_tokens: int = Field(default=65_536, ge=16)
    """Tokens of one forward at most [count]."""
    threads: int = Field(default=64, ge=1)
    """CPU threads at most [count]."""
    max_tokens: int = Field(default=32_768, ge=8)
    """Tokens of a training row at most [count]."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Tokens of an answer in evaluation at most [count]."""
    rows_per_batch: int = Field(default=1024, ge=1)
    """Rows handed to the engine at once in evaluation at most [count]."""
    full_fine_tuning: bool = False
    """Whether a job may train every weight; what it makes has the size of its base."""
    chat_template: bool = False
    """Whether a job may name another chat template; its models have an engine of their own beside the
    base's."""
    shots: int = Field(default=64, ge=1)
    """Solved examples in a few-shot prompt at most [count]."""
    max_shot_tokens: int = Field(default=32_768, ge=16)
    """Tokens of all solved examples at most [count]."""


class JobTerms(NamedTuple):
    """What the operator of a server lays down for jobs that come over the API."""

    engine: EngineSettings | None = None
    """The engine that serves, where one was chosen: what answers is what judges."""
    limits: JobLimits = JobLimits()
    """How large a job may be."""
    floor: Sequence[GateRule] = ()
    """Gate rules that must hold besides the job's own."""


AS_MANY_SHOTS_AS_FIT = 256
"""Solved examples that ``max`` counts as, which says no number [count]."""
LIMITED: Mapping[str, str] = {
    "epochs": "train.epochs",
    "rank": "train.rank",
    "batch_size": "train.batch_size",
    "micro_batch_size": "train.micro_batch_size",
    "micro_batch_tokens": "train.micro_batch_tokens",
    "threads": "train.threads",
    "max_tokens": "data.max_tokens",
    "max_new_tokens": "evaluate.max_new_tokens",
    "rows_per_batch": "evaluate.rows_per_batch",
    "shots": "evaluate.baseline.shots",
    "max_shot_tokens": "evaluate.baseline.max_shot_tokens",
}
"""Each limit with the setting that it bounds."""


def check_sections(sections: Mapping[str, Any]) -> None:
    """Refuse what a job may not set.

    Args:
        sections: What the request has under ``tunery``, by sections of a recipe.

    Raises:
        ConfigError: Names the first setting that is unknown, or not for jobs, or no section.
    """
    for path, value in _settings_in(sections, ""):
        where = f"tunery.{path}"
        for name, reason in THE_SERVERS.items():
            if path == name or path.startswith(f"{name}."):
                raise ConfigError(f"{where} cannot be set by a job: {reason}; leave it out", param=where)
        if path == "chat_template" and value is not None and value not in NAMES:
            known = ", ".join(NAMES)
            raise ConfigError(f"{where} is none of {known}; a job can name no file", param=where)
        if path in _GROUPS:
            raise ConfigError(f"{where} is not an object", param=where)
        if path in MAY_SET or (path.startswith(_OPEN_GROUPS) and not _holds_text(value)):
            continue
        parent = path.rpartition(".")[0]
        siblings = sorted({_child_of(parent, known) for known in MAY_SET} - {""})
        meant = did_you_mean(path.rpartition(".")[2], siblings)
        raise ConfigError(
            f"{where}: unknown, or not for jobs{meant} (known: {', '.join(siblings) or 'none'})",
            param=f"tunery.{parent}" if parent else "tunery",
        )


def check_size(recipe: Recipe, limits: JobLimits) -> None:
    """Refuse a job that is larger than the operator allows.

    Raises:
        ConfigError: Names the setting, its value and the limit.
    """
    if recipe.train.adapter == "none" and not limits.full_fine_tuning:
        raise ConfigError(
            "train.adapter is none; this server takes no jobs that train every weight "
            "(job_limits.full_fine_tuning)",
            param="tunery.train.adapter",
        )
    if recipe.chat_template is not None and not limits.chat_template:
        raise ConfigError(
            f"chat_template is {recipe.chat_template}; this server takes jobs with its base's own template "
            "alone (job_limits.chat_template)",
            param="tunery.chat_template",
        )
    for name in recipe.train.auto:
        most = getattr(limits, name, math.inf)
        if (largest := AUTO_BOUNDS.get(name, (0, 0))[1]) > most:
            raise ConfigError(
                f"train.{name} is auto, which chooses up to {largest:,}; this server takes jobs with at most "
                f"{most:,.10g} (job_limits.{name}): name a number",
                param="hyperparameters.n_epochs" if name == "epochs" else f"tunery.train.{name}",
            )
    for limit, path in LIMITED.items():
        value: Any = recipe
        for part in path.split("."):
            value = getattr(value, part)
        most = getattr(limits, limit)
        if limit == "shots" and value == "max":
            value = AS_MANY_SHOTS_AS_FIT
        if value is not None and value > most:
            raise ConfigError(
                f"{path} is {value:,.10g}; this server takes jobs with at most {most:,.10g} "
                f"(job_limits.{limit})",
                param="hyperparameters.n_epochs" if limit == "epochs" else f"tunery.{path}",
            )


def _settings_in(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield each setting that stands in a section, at the depth at which it is listed."""
    for key, value in node.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and (here in _GROUPS or _is_of_a_filter(here)):
            yield from _settings_in(value, here)
        elif value is not None or here not in _GROUPS:
            yield here, value


def _is_of_a_filter(path: str) -> bool:
    return path.rpartition(".")[0] == "data.filters"


def _child_of(parent: str, known: str) -> str:
    """Return the part of a known path that stands below a parent; empty where it stands elsewhere."""
    if parent and not known.startswith(f"{parent}."):
        return ""
    return known.removeprefix(f"{parent}." if parent else "").partition(".")[0]


def _holds_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_text(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_text(item) for item in value)
    return isinstance(value, str)
