"""LLaMA-Factory's YAML or JSON."""

from __future__ import annotations

from typing import Any

from tunery.core.errors import ConfigError
from tunery.pipeline.imports import hf_arguments as hf
from tunery.pipeline.imports.draft import Draft, Tool

_LORA = hf.LoraKeys(
    rank="lora_rank",
    alpha="lora_alpha",
    dropout="lora_dropout",
    targets="lora_target",
    save="additional_target",
)
_LOSSES = {"sigmoid": "dpo", "hinge": "dpo", "ipo": "dpo", "orpo": "orpo", "simpo": "simpo"}


def _translate(draft: Draft) -> None:
    hf.take_base(draft, "model_name_or_path", "model_revision")
    names = draft.get("dataset", "rows")
    listed = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    folder = draft.get("dataset_dir", "data")
    sources: list[dict[str, Any]] = [{"path": f"{folder}/{name}.json"} for name in listed]
    limit = draft.get("max_samples")
    if limit is not None:
        sources = [{**source, "limit": int(limit)} for source in sources]
    for name in _names(draft.get("eval_dataset")):
        sources.append({"path": f"{folder}/{name}.json", "split": "validation"})
    draft.set("data.sources", sources, "dataset", "dataset_dir", "max_samples", "eval_dataset")
    draft.note("dataset", "to do", "dataset_info.json says which file and columns each name has")
    if (size := draft.get("val_size")) is not None:
        draft.set("data.split.validation", hf.share_of(size), "val_size")
    draft.move("cutoff_len", "data.max_tokens", int)
    _method(draft)
    _adapter(draft)
    hf.take_arguments(draft)
    hf.take_template(draft, "template")
    if draft.get("train_on_prompt"):
        draft.set("train.loss_on", "all", "train_on_prompt")
    if draft.get("mask_history"):
        draft.set("train.loss_on", "last", "mask_history")
    if draft.get("use_swanlab"):
        draft.leave("use_swanlab", "not needed", "track has mlflow, wandb and tensorboard")


def _names(value: Any) -> list[str]:
    if not value:
        return []
    return [n.strip() for n in value.split(",")] if isinstance(value, str) else list(value)


def _method(draft: Draft) -> None:
    stage = draft.get("stage", "sft")
    if stage == "dpo":
        loss = draft.get("pref_loss", "sigmoid")
        if loss not in _LOSSES:
            draft.leave("pref_loss", "no counterpart", "losses are sigmoid, hinge, ipo, orpo and simpo")
            loss = "sigmoid"
        draft.set("train.method", _LOSSES[loss], "stage", "pref_loss")
        if loss in ("hinge", "ipo"):
            draft.set("train.loss_type", loss, "pref_loss")
        draft.move("pref_beta", "train.beta", float)
        draft.move("simpo_gamma", "train.gamma", float)
        draft.move("pref_ftx", "train.sft_weight", float)
        draft.move("dpo_label_smoothing", "train.label_smoothing", float)
    elif stage == "kto":
        draft.set("train.method", "kto", "stage")
        draft.move("pref_beta", "train.beta", float)
        draft.move("kto_chosen_weight", "train.desirable_weight", float)
        draft.move("kto_rejected_weight", "train.undesirable_weight", float)
    elif stage != "sft":
        raise ConfigError(f"stage is {stage}: a recipe learns answers (sft) or preferences (dpo, kto)")
    else:
        draft.set("train.method", "sft", "stage")
    if stage != "sft":
        draft.set("goal.metric", "perplexity")


def _adapter(draft: Draft) -> None:
    kind = draft.get("finetuning_type", "lora")
    if kind == "full":
        draft.set("train.adapter", "none", "finetuning_type")
        return
    if kind != "lora":
        draft.leave("finetuning_type", "no counterpart", "lora, rslora, dora or full; this becomes lora")
    if draft.get("use_dora"):
        draft.set("train.adapter", "dora", "use_dora", "finetuning_type")
    elif draft.get("use_rslora"):
        draft.set("train.adapter", "rslora", "use_rslora", "finetuning_type")
    else:
        draft.set("train.adapter", "lora", "finetuning_type")
    rank = int(draft.get("lora_rank", 8))
    hf.take_lora(draft, _LORA, rank=rank, alpha=2 * rank, dropout=0.0)
    draft.move("loraplus_lr_ratio", "train.lora_plus_ratio", float)
    bits = draft.get("quantization_bit")
    if bits == 4 and draft.get("quantization_type", "nf4") == "nf4":
        draft.set("train.quantization", "nf4", "quantization_bit", "quantization_type")
    elif bits is not None:
        draft.leave("quantization_bit", "no counterpart", "the base is held whole, or in four bits (nf4)")


TOOL = Tool(
    title="LLaMA-Factory",
    read=hf.read_settings,
    translate=_translate,
    not_needed={
        **hf.NOT_NEEDED,
        "plot_loss": "the report shows the losses",
        "tokenized_path": "dataset versions are kept in TUNERY_HOME",
        "neat_packing": hf.NOT_NEEDED["packing"],
        "flash_attn": hf.NOT_NEEDED["attn_implementation"],
        "overwrite_cache": "a dataset version is found again by what it was made of",
        "quantization_method": "train.quantization is bitsandbytes' nf4",
        "double_quantization": "train.quantization quantises the scales, too",
        "upcast_layernorm": "fp32 on a CPU",
        "use_unsloth*": "attention over shared beginnings is the project's own",
        "enable_liger_kernel": hf.NOT_NEEDED["use_liger_kernel"],
        "compute_accuracy": "train.generate_rows judges answers while it trains",
        "predict_with_generate": "the test split is answered and judged after training",
        "infer_*": "tunery serve",
        "export_*": "tunery registry export",
        "ray_*": hf.NOT_NEEDED["ddp_*"],
        "placement_strategy": hf.NOT_NEEDED["ddp_*"],
        "resources_per_worker": hf.NOT_NEEDED["ddp_*"],
        "include_effective_tokens_per_second": "speed is always told",
        "cache_dir": "downloads lie where huggingface_hub puts them",
        "use_fast_tokenizer": "the tokenizer is the base's tokenizer.json",
        "ref_model_quantization_bit": "the reference needs no second model",
        "create_new_adapter": "an adapter is always new",
        "streaming": "rows are read once, before training",
        "enable_thinking": "the chat template says how reasoning is written",
    },
    without={
        **hf.WITHOUT,
        "adapter_name_or_path": "train.start_from chains trainings; a folder cannot be started from",
        "freeze_*": "an adapter is on linear layers of the language model",
        "pissa_*": "the adapter begins at zero beside the base",
        "use_galore": hf.WITHOUT["optim"],
        "galore_*": hf.WITHOUT["optim"],
        "use_apollo": hf.WITHOUT["optim"],
        "apollo_*": hf.WITHOUT["optim"],
        "use_badam": hf.WITHOUT["optim"],
        "badam_*": hf.WITHOUT["optim"],
        "use_adam_mini": hf.WITHOUT["optim"],
        "use_muon": hf.WITHOUT["optim"],
        "use_dft_loss": "the loss is plain cross-entropy",
        "use_eaft_loss": "the loss is plain cross-entropy",
        "rope_scaling": "positions are the base's",
        "shift_attn": "attention is the base's",
        "mixture_of_depths": "layers are the base's",
        "image_*": "models read text alone",
        "video_*": "models read text alone",
        "audio_*": "models read text alone",
        "resize_vocab": "the vocabulary stays the base's",
        "new_special_tokens": "the vocabulary stays the base's",
        "add_tokens": "the vocabulary stays the base's",
        "ref_model": hf.WITHOUT["ref_model*"],
        "reward_model*": "methods are sft, dpo, orpo, simpo and kto",
        "fp8*": "train.dtype is float32 or bfloat16",
        "oft_*": "adapters are lora, rslora and dora",
        "mix_strategy": "rows of all sources are drawn alike",
        "interleave_probs": "rows of all sources are drawn alike",
    },
)
