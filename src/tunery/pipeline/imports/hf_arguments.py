"""What configurations in the words of transformers, PEFT and TRL have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunery.core.config import read_yaml
from tunery.core.errors import ConfigError
from tunery.model.chat_templates import NAMES as TEMPLATES
from tunery.model.chat_templates import is_template_file
from tunery.pipeline.imports.draft import Draft

ROW_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst")
_SCHEDULES = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine_with_min_lr": "cosine",
    "cosine_with_restarts": "cosine",
}
_ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw")
_OWN_TEMPLATE = ("tokenizer_default", "default")
_TRACKERS = ("mlflow", "wandb", "tensorboard")

NOT_NEEDED: Mapping[str, str] = {
    "output_dir": "adapters, checkpoints and reports lie in TUNERY_HOME",
    "overwrite_output_dir": "what was made from the same inputs is found again, never overwritten",
    "logging_*": "every step is recorded",
    "log_level*": "see tunery --help",
    "log_on_each_node": "one process writes",
    "save_*": "the best and the last checkpoint are kept, at every validation",
    "resume_from_checkpoint": "a training that was cut off goes on by itself",
    "do_train": "it is what a recipe does",
    "do_eval": "the validation split is measured while it trains, the test split afterwards",
    "do_predict": "the test split is answered and judged after training",
    "eval_strategy": "the validation split is measured eight times a training; train.validation_every",
    "evaluation_strategy": "the validation split is measured eight times a training; train.validation_every",
    "eval_on_start": "baselines are measured before training",
    "per_device_eval_batch_size": "validation forwards are filled by tokens",
    "eval_accumulation_steps": "validation forwards are filled by tokens",
    "load_best_model_at_end": "train.keep: best is the default",
    "metric_for_best_model": "train.best_by: the loss is the default",
    "greater_is_better": "a metric's direction is known",
    "bf16": "fp32 on a CPU, bf16 on a GPU; train.dtype",
    "fp16": "bf16 on a GPU, which needs no loss scaling; train.dtype",
    "tf32": "PyTorch's own setting",
    "pure_bf16": "train.dtype",
    "torch_dtype": "train.dtype",
    "dtype": "train.dtype",
    "attn_implementation": "attention over shared beginnings is the project's own",
    "gradient_checkpointing*": "train.gradient_checkpointing: auto does so where memory is short",
    "use_reentrant_gc": "train.gradient_checkpointing: auto does so where memory is short",
    "packing": "rows are always packed without padding, what they begin with computed once",
    "packing_strategy": "rows are always packed",
    "padding_free": "rows are always packed",
    "eval_packing": "rows are always packed",
    "group_by_length": "rows are packed, so there is no padding to save",
    "dataloader_*": "rows are tokenised once, before training",
    "dataset_num_proc": "rows are read by as many processes as there are cores",
    "dataset_kwargs": "rows are tokenised once, before training",
    "preprocessing_num_workers": "rows are read by as many processes as there are cores",
    "remove_unused_columns": "columns are mapped by name; what is not mapped is named in a warning",
    "ddp_*": "torchrun starts several processes, which share each step",
    "local_rank": "torchrun starts several processes, which share each step",
    "use_liger_kernel": "the output layer runs for supervised tokens alone",
    "push_to_hub*": "nothing is uploaded; tunery registry export writes a folder to upload",
    "hub_*": "nothing is uploaded; tunery registry export writes a folder to upload",
    "use_cpu": "train.device",
    "disable_tqdm": "tunery --help says how output is made quiet",
    "include_num_input_tokens_seen": "trained tokens are always counted",
    "include_tokens_per_second": "speed is always told",
    "run_name": "trackers take the recipe's name",
    "full_determinism": "a training is the same again, to the bit on a CPU",
    "data_seed": "train.seed draws the order of rows, too",
    "use_cache": "keys and values are not kept in training",
    "low_cpu_mem_usage": "weights are read straight from safetensors",
    "device_map": "train.device",
    "token": "nothing is downloaded without base: org/model@revision",
    "lora_task_type": "a recipe trains causal language models",
    "task_type": "a recipe trains causal language models",
    "max_prompt_length": "rows are never cut; data.max_tokens drops those that are longer",
    "precompute_ref_log_probs": "reference log-probabilities are computed once, before the first step",
    "generate_during_eval": "train.generate_rows",
}
WITHOUT: Mapping[str, str] = {
    "optim": "the optimiser is AdamW in fp32; another one trains other weights",
    "optim_args": "the optimiser is AdamW with its usual settings",
    "optim_target_modules": "the optimiser is AdamW with its usual settings",
    "adam_*": "AdamW's moments decay by 0.9 and 0.999, epsilon is 1e-8",
    "lr_scheduler_kwargs": "the schedule falls to 0",
    "max_steps": "training ends after train.epochs, not after a number of steps",
    "neftune_noise_alpha": "noise on the embeddings is there for sft alone",
    "label_smoothing_factor": "smoothing of the targets is there for sft alone",
    "deepspeed": "train.sharding: fsdp divides weights among the processes of torchrun or Ray",
    "fsdp*": "train.sharding: fsdp divides weights among the processes of torchrun or Ray",
    "trust_remote_code": "code of a model's repository is never run; models that need it cannot be the base",
    "loftq_config": "the adapter begins at zero, not at what quantisation loses",
    "lora_bias": "biases are not trained",
    "bias": "biases are not trained",
    "layers_to_transform": "train.target_modules takes patterns, such as layers.1?.*",
    "layers_pattern": "train.target_modules takes patterns, such as layers.1?.*",
    "auto_find_batch_size": "forwards are made smaller where memory runs out; the batch stays",
    "ref_model*": "the reference is the model that training starts from",
    "sync_ref_model": "the reference stays that of the start",
    "rpo_alpha": "train.sft_weight adds the preferred answers' cross-entropy",
    "torch_compile*": "nothing is compiled",
    "average_tokens_across_devices": "it is always so",
}


def read_settings(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file with a mapping.

    Raises:
        ConfigError: It is none.
    """
    return dict(read_yaml(path))


def take_arguments(draft: Draft) -> None:
    """Take what transformers' TrainingArguments say."""
    take_batch(draft, "per_device_train_batch_size", default=8)
    take_schedule(draft, draft.get("lr_scheduler_type", "linear"), "lr_scheduler_type")
    draft.move("learning_rate", "train.learning_rate", float)
    draft.move("num_train_epochs", "train.epochs", float)
    take_warmup(draft, default=0.0)
    draft.move("weight_decay", "train.weight_decay", float)
    draft.move("max_grad_norm", "train.max_grad_norm", float)
    draft.move("seed", "train.seed", int)
    if draft.values.get("eval_steps") and isinstance(draft.values["eval_steps"], int):
        draft.move("eval_steps", "train.validation_every", int)
    take_optimiser(draft, "optim")
    take_regularisation(draft, "neftune_noise_alpha", "label_smoothing_factor")
    if draft.get("max_steps", -1) == -1:
        draft.leave("max_steps", "off", "it is switched off there")
    else:
        draft.seen.discard("max_steps")
    take_trackers(draft)
    patience = draft.get("early_stopping_patience", draft.get("early_stopping_steps"))
    if patience is not None:
        draft.set("train.early_stopping", int(patience), "early_stopping_patience", "early_stopping_steps")
    else:
        draft.set("train.early_stopping", None)


def take_regularisation(draft: Draft, noise: str, smoothing: str) -> None:
    """Take noise on the embeddings and smoothing of the targets, which answers alone are learnt with."""
    if draft.recipe.get("train", {}).get("method", "sft") != "sft":
        return
    if draft.values.get(noise):
        draft.move(noise, "train.neftune_alpha", float)
    if draft.values.get(smoothing):
        draft.move(smoothing, "train.label_smoothing", float)


def take_batch(draft: Draft, key: str, *, default: int) -> None:
    """Take rows of a device and accumulation as the batch of a step."""
    accumulation = draft.get("gradient_accumulation_steps", 1)
    rows = draft.get(key, default)
    if not (isinstance(rows, int) and isinstance(accumulation, int)):
        draft.leave(key, "to do", "set train.batch_size: it is chosen while it runs there")
        return
    draft.set("train.batch_size", rows * accumulation, key, "gradient_accumulation_steps")


def take_schedule(draft: Draft, name: Any, key: str) -> None:
    """Take how the learning rate falls."""
    known = _SCHEDULES.get(str(name))
    if known is None:
        draft.leave(key, "no counterpart", "the learning rate falls by cosine, linearly or not at all")
        return
    draft.set("train.schedule", known, key)
    if known != name and name != "constant_with_warmup":
        draft.note(key, "no counterpart", f"it falls as by {known}, to 0 and once")


def take_warmup(draft: Draft, *, default: float) -> None:
    """Take the share of steps over which the learning rate rises."""
    steps, most = draft.get("warmup_steps"), draft.values.get("max_steps")
    ratio = draft.get("warmup_ratio")
    if ratio is None and isinstance(steps, float) and 0 < steps < 1:
        ratio = steps
    elif ratio is None and steps and isinstance(most, int) and most > 0:
        ratio = round(steps / most, 4)
    elif ratio is None and steps:
        draft.note("warmup_steps", "to do", "set train.warmup_ratio: these steps by all steps")
        return
    draft.set(
        "train.warmup_ratio", float(default if ratio is None else ratio), "warmup_ratio", "warmup_steps"
    )


def take_optimiser(draft: Draft, key: str) -> None:
    """See to the optimiser's name."""
    name = str(draft.get(key, "adamw_torch")).removeprefix("OptimizerNames.").lower()
    if name in _ADAMW:
        draft.leave(key, "not needed", "AdamW is the optimiser")
    elif "adamw" in name and ("8bit" in name or "paged" in name):
        draft.leave(key, "not needed", "AdamW, its state in fp32: an adapter's is small")
    else:
        draft.leave(key, "no counterpart", "the optimiser is AdamW; another one trains other weights")


def take_trackers(draft: Draft, key: str = "report_to") -> None:
    """Take experiment trackers by their names."""
    named = draft.get(key, [])
    wanted = [named] if isinstance(named, str) else list(named)
    for name in wanted:
        if name in _TRACKERS:
            draft.set(f"track.{name}", {}, key)
    if not draft.recipe.get("track"):
        draft.leave(key, "not needed", "track.mlflow, track.wandb and track.tensorboard are the trackers")


class LoraKeys:
    """How a tool calls LoRA's settings."""

    def __init__(
        self, *, rank: str, alpha: str, dropout: str, targets: str, save: str = "modules_to_save"
    ) -> None:
        self.rank, self.alpha, self.dropout, self.targets, self.save = rank, alpha, dropout, targets, save


def take_lora(draft: Draft, keys: LoraKeys, *, rank: int, alpha: float, dropout: float) -> None:
    """Take an adapter's shape; the numbers are the tool's defaults."""
    own_rank = int(draft.get(keys.rank, rank))
    draft.set("train.rank", own_rank, keys.rank)
    draft.set("train.alpha", float(draft.get(keys.alpha, alpha)), keys.alpha)
    draft.set("train.dropout", float(draft.get(keys.dropout, dropout)), keys.dropout)
    take_targets(draft, keys.targets)
    if saved := draft.get(keys.save):
        draft.set("train.modules_to_save", [saved] if isinstance(saved, str) else list(saved), keys.save)
        draft.set("train.merge", True)


def take_targets(draft: Draft, key: str) -> None:
    """Take which layers are adapted; a regular expression is left to a person."""
    wanted = draft.get(key)
    if isinstance(wanted, str):
        wanted = [name.strip() for name in wanted.split(",") if name.strip()]
    if not wanted:
        return
    if wanted[0] in ("all", "all-linear"):
        draft.set("train.target_modules", "all-linear", key)
    elif any(set(name) & set("\\|()^$+") for name in wanted):
        draft.note(key, "to do", "a regular expression; write train.target_modules as patterns with *")
    else:
        draft.set("train.target_modules", list(wanted), key)


def take_base(draft: Draft, key: str, revision: str | None = None) -> None:
    """Take the base; a hub id gets a revision."""
    name = draft.get(key)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{key} is missing: it names the base model")
    pinned = draft.get(revision) if revision else None
    local = name.startswith((".", "/", "~")) or name.count("/") != 1
    draft.set("base", name if local else f"{name}@{pinned or 'main'}", key, *([revision] if revision else []))
    if not local and not pinned:
        draft.note(key, "to do", "pin base to a commit instead of main, so that weights stay the same")


def take_template(draft: Draft, key: str) -> None:
    """Take a chat template by its name or its file; of any other one a person has to see to it."""
    named = draft.get(key)
    if named is None or named in _OWN_TEMPLATE:
        draft.leave(key, "off", "the base's own template is used")
    elif named in TEMPLATES:
        draft.set("chat_template", named, key)
        if named == "alpaca":
            draft.note(key, "to do", "words are Stanford's; look at the first rows: tunery train preflight")
    elif is_template_file(named) and "\n" not in named:
        draft.set("chat_template", named, key)
        draft.note(key, "to do", "its path starts from the recipe's folder")
    elif "{%" in str(named) or "{{" in str(named):
        draft.leave(key, "to do", "write it into a file, and its name into chat_template")
    else:
        draft.leave(
            key,
            "to do",
            f"the base's own template is used; see that it is {named}, or write chat_template: FILE.jinja",
        )


def rows_at(draft: Draft, key: str, name: str) -> str:
    """Return where a recipe finds rows: a file as it is, a hub dataset as the file to save it to."""
    if name.endswith(ROW_FILES) or name.startswith(("s3://", "gs://", "./", "/", "~")):
        return name
    path = f"data/{name.strip('/').replace('/', '--')}.jsonl"
    draft.note(key, "to do", f"a dataset of a hub: save its rows as {path} beside the recipe")
    return path


def share_of(size: Any) -> int | float:
    """Return a held-out share or number of rows as a recipe writes it."""
    value = float(size)
    return value if value < 1 else math.floor(value)
