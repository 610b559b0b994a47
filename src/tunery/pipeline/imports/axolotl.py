"""Axolotl's YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.core.errors import ConfigError
from tunery.pipeline.imports import hf_arguments as hf
from tunery.pipeline.imports.draft import Draft, Tool

_LORA = hf.LoraKeys(
    rank="lora_r",
    alpha="lora_alpha",
    dropout="lora_dropout",
    targets="lora_target_modules",
    save="lora_modules_to_save",
)
_PREFERENCES = {"dpo": "dpo", "ipo": "dpo", "orpo": "orpo", "simpo": "simpo", "kto": "kto"}
_CHAT_TYPES = ("chat_template", "sharegpt", "chatml")


def _translate(draft: Draft) -> None:
    hf.take_base(draft, "base_model", "revision_of_model")
    _rows(draft)
    _method(draft)
    _adapter(draft)
    hf.take_batch(draft, "micro_batch_size", default=1)
    hf.take_schedule(draft, draft.get("lr_scheduler", "cosine"), "lr_scheduler")
    draft.move("learning_rate", "train.learning_rate", float)
    draft.set("train.epochs", float(draft.get("num_epochs", 1)), "num_epochs")
    hf.take_warmup(draft, default=0.03)
    draft.move("weight_decay", "train.weight_decay", float)
    draft.move("max_grad_norm", "train.max_grad_norm", float)
    draft.move("seed", "train.seed", int)
    draft.move("sequence_len", "data.max_tokens", int)
    hf.take_optimiser(draft, "optimizer")
    for noise in ("noisy_embedding_alpha", "neftune_noise_alpha"):
        hf.take_regularisation(draft, noise, "label_smoothing_factor")
    patience = draft.get("early_stopping_patience")
    draft.set(
        "train.early_stopping", patience if patience is None else int(patience), "early_stopping_patience"
    )
    if draft.get("wandb_project"):
        draft.set("track.wandb", {"project": draft.values["wandb_project"]}, "wandb_project")
    if draft.get("mlflow_tracking_uri"):
        draft.set("track.mlflow", {}, "mlflow_tracking_uri")
    _template(draft)
    if str(draft.get("flash_attention")).lower() == "true":
        draft.leave("flash_attention", "not needed", hf.NOT_NEEDED["attn_implementation"])


def _template(draft: Draft) -> None:
    if draft.get("chat_template") == "jinja":
        draft.leave("chat_template", "not needed", "chat_template_jinja says which")
        hf.take_template(draft, "chat_template_jinja")
        return
    hf.take_template(draft, "chat_template")
    if draft.get("chat_template") is None and _are_alpaca(draft):
        draft.set("chat_template", "alpaca", "datasets")
        draft.note(
            "datasets", "to do", "words are Stanford's; look at the first rows: tunery train preflight"
        )


def _are_alpaca(draft: Draft) -> bool:
    kinds = [entry.get("type") for entry in draft.get("datasets") or [] if isinstance(entry, Mapping)]
    return bool(kinds) and all(isinstance(k, str) and k.partition(".")[0] == "alpaca" for k in kinds)


def _rows(draft: Draft) -> None:
    sources = []
    for entry in draft.get("datasets") or []:
        if not isinstance(entry, Mapping):
            raise ConfigError("datasets holds something that is no mapping")
        sources.append(_source(draft, entry))
    for entry in draft.get("test_datasets") or []:
        sources.append({**_source(draft, entry), "split": "validation"})
    if draft.get("pretraining_dataset"):
        draft.leave(
            "pretraining_dataset", "no counterpart", "training on plain text; a recipe learns answers"
        )
    once = list({source["path"]: source for source in reversed(sources)}.values())[::-1]
    if len(once) < len(sources):
        draft.note("datasets", "not needed", "rows that are there twice are taken once")
    draft.set("data.sources", once or [{"path": "data/rows.jsonl"}], "datasets", "test_datasets")
    size = draft.get("val_set_size")
    if size is not None and not draft.values.get("test_datasets"):
        draft.set("data.split.validation", hf.share_of(size), "val_set_size")


def _source(draft: Draft, entry: Mapping[str, Any]) -> dict[str, Any]:
    files = entry.get("data_files")
    named = files if isinstance(files, str) else (files or [entry.get("path", "rows")])[0]
    source: dict[str, Any] = {"path": hf.rows_at(draft, "datasets", str(named))}
    kind = entry.get("type")
    columns: dict[str, str] = {}
    if isinstance(kind, Mapping):  # prompts put together of named fields
        fields = {"field_instruction": "instruction", "field_input": "input", "field_output": "output"}
        columns = {ours: str(kind[theirs]) for theirs, ours in fields.items() if kind.get(theirs)}
        source["shape"] = "instruction"
        if kind.get("format") or kind.get("no_input_format"):
            draft.note("datasets", "to do", "a prompt format of its own; see data")
    elif isinstance(kind, str) and kind.partition(".")[0] == "alpaca":
        source["shape"] = "instruction"
        if draft.values.get("chat_template") not in (None, "alpaca") or not _are_alpaca(draft):
            draft.note("datasets", "no counterpart", "Alpaca's frame of words; here the chat template's")
    elif isinstance(kind, str) and kind.partition(".")[0] in _CHAT_TYPES and not draft.values.get("rl"):
        source["shape"] = "chat"
        if messages := entry.get("field_messages"):
            columns["messages"] = str(messages)
    elif kind == "completion":
        draft.note("datasets", "no counterpart", "training on plain text; a recipe learns answers")
    if columns:
        source["columns"] = columns
    known = {"path", "data_files", "type", "field_messages", "split", "ds_type", "name", "trust_remote_code"}
    for key in entry.keys() - known:
        draft.note("datasets", "to do", f"{key}: {entry[key]!r}; see docs/reference/settings.md, data")
    return source


def _method(draft: Draft) -> None:
    learnt = draft.get("rl")
    if learnt in _PREFERENCES:
        draft.set("train.method", _PREFERENCES[learnt], "rl")
        if learnt == "ipo":
            draft.set("train.loss_type", "ipo", "rl")
        beta = draft.get("orpo_alpha") if learnt == "orpo" else draft.get("rl_beta", draft.get("dpo_beta"))
        if beta is not None:
            draft.set("train.beta", float(beta), "rl_beta", "dpo_beta", "orpo_alpha")
        for theirs in ("kto_desirable_weight", "kto_undesirable_weight"):
            draft.move(theirs, f"train.{theirs.removeprefix('kto_')}", float)
        draft.move("simpo_gamma", "train.gamma", float)
        draft.set("goal.metric", "perplexity")
    elif learnt:
        draft.leave("rl", "no counterpart", _METHODS)
    if draft.get("train_on_inputs"):
        draft.set("train.loss_on", "all", "train_on_inputs")
    else:
        draft.leave("train_on_inputs", "off", "answers alone are trained, as is the default")


def _adapter(draft: Draft) -> None:
    kind = draft.get("adapter")
    four, eight = draft.get("load_in_4bit"), draft.get("load_in_8bit")
    if kind is None:
        draft.set("train.adapter", "none", "adapter")
        for key in [key for key in draft.values if key.startswith("lora_")]:
            draft.leave(key, "off", "there is no adapter there")
        return
    if kind == "qlora" or four:
        draft.set("train.quantization", "nf4", "adapter", "load_in_4bit")
    if eight and not four:
        draft.note("load_in_8bit", "no counterpart", "the base is held whole, or in four bits (nf4)")
    if kind not in ("lora", "qlora"):
        draft.leave("adapter", "no counterpart", "adapters are lora, rslora and dora; this one becomes lora")
    if draft.get("peft_use_dora"):
        draft.set("train.adapter", "dora", "peft_use_dora")
    elif draft.get("peft_use_rslora"):
        draft.set("train.adapter", "rslora", "peft_use_rslora")
    hf.take_lora(draft, _LORA, rank=8, alpha=16, dropout=0.0)
    if draft.get("lora_target_linear"):
        draft.set("train.target_modules", "all-linear", "lora_target_linear")
    draft.move("loraplus_lr_ratio", "train.lora_plus_ratio", float)


_KERNEL = "a kernel for GPUs; results are the same"
_METHODS = "methods are sft, dpo, orpo, simpo and kto"
_VOCABULARY = "the vocabulary stays the base's"
TOOL = Tool(
    title="Axolotl",
    read=hf.read_settings,
    translate=_translate,
    not_needed={
        **hf.NOT_NEEDED,
        "sample_packing*": hf.NOT_NEEDED["packing"],
        "eval_sample_packing": hf.NOT_NEEDED["packing"],
        "pad_to_sequence_len": hf.NOT_NEEDED["packing"],
        "max_packed_sequence_len": hf.NOT_NEEDED["packing"],
        "dataset_prepared_path": "dataset versions are kept in TUNERY_HOME",
        "dataset_processes": hf.NOT_NEEDED["dataset_num_proc"],
        "skip_prepare_dataset": "rows are tokenised once, before training",
        "shuffle_merged_datasets": "rows are drawn in random order",
        "push_dataset_to_hub": hf.NOT_NEEDED["push_to_hub*"],
        "saves_per_epoch": hf.NOT_NEEDED["save_*"],
        "evals_per_epoch": hf.NOT_NEEDED["eval_strategy"],
        "eval_steps": hf.NOT_NEEDED["eval_strategy"],
        "eval_batch_size": hf.NOT_NEEDED["per_device_eval_batch_size"],
        "lora_model_dir": "train.start_from chains trainings; a folder cannot be started from",
        "model_type": "the class is told by the base's config.json",
        "tokenizer_type": "the tokenizer is the base's tokenizer.json",
        "tokenizer_config": "the tokenizer is the base's tokenizer.json",
        "is_*": "the class is told by the base's config.json",
        "strict": "weights that do not fit are always refused",
        "wandb_*": "track.wandb",
        "mlflow_*": "track.mlflow",
        "float16": hf.NOT_NEEDED["fp16"],
        "lora_mlp_kernel": _KERNEL,
        "lora_qkv_kernel": _KERNEL,
        "lora_o_kernel": _KERNEL,
        "liger_*": _KERNEL,
        "cut_cross_entropy": hf.NOT_NEEDED["use_liger_kernel"],
        "flash_*": hf.NOT_NEEDED["attn_implementation"],
        "xformers_attention": hf.NOT_NEEDED["attn_implementation"],
        "sdp_attention": hf.NOT_NEEDED["attn_implementation"],
        "activation_offloading": hf.NOT_NEEDED["gradient_checkpointing*"],
        "loss_watchdog_*": "a loss that explodes stops training; train.divergence_factor",
        "debug": "tunery train preflight shows tokens and mask",
        "torchdistx_path": hf.NOT_NEEDED["ddp_*"],
        "eot_tokens": "stop tokens are those that the chat template writes behind an answer",
        "batch_size": "micro_batch_size and gradient_accumulation_steps say it",
        "trackio_*": "track has mlflow, wandb and tensorboard",
        "use_kernels": _KERNEL,
    },
    without={
        **hf.WITHOUT,
        "special_tokens": "the vocabulary stays the base's; a padding token is not needed",
        "tokens": _VOCABULARY,
        "added_tokens_overrides": _VOCABULARY,
        "resize_token_embeddings_to_32x": _VOCABULARY,
        "unfrozen_parameters": "train.adapter: none trains every weight; there is no list of some",
        "lora_fan_in_fan_out": "layers are nn.Linear",
        "lora_target_parameters": "adapters are on linear layers",
        "lora_layers_to_transform": hf.WITHOUT["layers_to_transform"],
        "plugins": "code of other packages is not run",
        "relora*": "an adapter is trained once",
        "cosine_*": hf.WITHOUT["lr_scheduler_kwargs"],
        "eta_min": hf.WITHOUT["lr_scheduler_kwargs"],
        "gptq*": "bases are safetensors in fp32, fp16 or bf16, held in four bits by train.quantization",
        "bnb_config_kwargs": "train.quantization: nf4 with double quantisation",
        "model_quantization_config*": "train.quantization: nf4 is the one there is",
        "qat": "weights are not trained for later quantisation",
        "dp_*": hf.WITHOUT["deepspeed"],
        "tensor_parallel_size": hf.WITHOUT["deepspeed"],
        "context_parallel_size": hf.WITHOUT["deepspeed"],
        "expert_parallel_size": hf.WITHOUT["deepspeed"],
        "processor_type": "models read text alone",
        "reward_model": _METHODS,
        "num_labels": _METHODS,
        "trl": _METHODS,
        "noisy_embedding_alpha": hf.WITHOUT["neftune_noise_alpha"],
        "quantize_moe_experts": "experts are held as they are",
    },
)
