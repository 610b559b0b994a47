"""The YAML that TRL's command line and scripts take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.pipeline.imports import hf_arguments as hf
from tunery.pipeline.imports.draft import Draft, Tool

_LORA = hf.LoraKeys(
    rank="lora_r",
    alpha="lora_alpha",
    dropout="lora_dropout",
    targets="lora_target_modules",
    save="lora_modules_to_save",
)
_LOSSES = ("sigmoid", "hinge", "ipo")
_OF_DPO = ("beta", "rpo_alpha", "reference_free", "precompute_ref_log_probs", "max_prompt_length")


def _translate(draft: Draft) -> None:
    hf.take_base(draft, "model_name_or_path", "model_revision")
    take_rows(draft)
    take_method(draft)
    if draft.get("use_peft") or any(key in draft.values for key in ("lora_r", "lora_alpha")):
        draft.leave("use_peft", "not needed", "train.adapter: lora is the default")
        take_kind(draft)
        hf.take_lora(draft, _LORA, rank=16, alpha=32, dropout=0.05)
    else:
        draft.set("train.adapter", "none", "use_peft")
    if draft.get("load_in_4bit"):
        draft.set("train.quantization", "nf4", "load_in_4bit")
    if draft.get("load_in_8bit"):
        draft.leave("load_in_8bit", "no counterpart", "the base is held whole, or in four bits (nf4)")
    for key in ("max_length", "max_seq_length"):
        draft.move(key, "data.max_tokens", int)
    hf.take_arguments(draft)
    for key in ("chat_template", "chat_template_path"):
        hf.take_template(draft, key)
    if draft.get("assistant_only_loss") or draft.get("completion_only_loss"):
        draft.set("train.loss_on", "completion", "assistant_only_loss", "completion_only_loss")


def take_kind(draft: Draft) -> None:
    """Take which adapter it is."""
    if draft.get("use_dora"):
        draft.set("train.adapter", "dora", "use_dora")
    elif draft.get("use_rslora"):
        draft.set("train.adapter", "rslora", "use_rslora")


def take_rows(draft: Draft) -> None:
    """Take where the rows come from."""
    sources: list[dict[str, Any]] = []
    if isinstance(mixture := draft.get("dataset_mixture"), Mapping):
        datasets = mixture.get("datasets") or []
        named = dict.fromkeys(str(d.get("id") or d.get("path")) for d in datasets)
        sources = [{"path": hf.rows_at(draft, "dataset_mixture", name)} for name in named]
        if size := mixture.get("test_split_size"):
            draft.set("data.split.validation", hf.share_of(size), "dataset_mixture")
    if isinstance(mixer := draft.get("dataset_mixer"), Mapping):
        sources = [{"path": hf.rows_at(draft, "dataset_mixer", name)} for name in mixer]
    if (name := draft.get("dataset_name")) is not None:
        sources = [{"path": hf.rows_at(draft, "dataset_name", str(name))}]
    for key in ("dataset_config", "dataset_train_split", "dataset_test_split", "dataset_splits"):
        draft.leave(key, "to do", "save the rows of this part beside the recipe")
    keys = ("dataset_mixture", "dataset_mixer", "dataset_name")
    draft.set("data.sources", sources or [{"path": "data/rows.jsonl"}], *keys)


def take_method(draft: Draft) -> None:
    """Take which method it is, by the settings that only one has."""
    values = draft.values
    if "desirable_weight" in values or "undesirable_weight" in values:
        method = "kto"
    elif values.get("cpo_alpha") is not None or "simpo_gamma" in values:
        method = "simpo"
    elif "disable_dropout" in values and "is_encoder_decoder" in values:
        method = "orpo"
    else:
        method = "dpo" if any(key in values for key in _OF_DPO) else "sft"
    draft.set("train.method", method)
    if method == "sft":
        return
    draft.note("beta", "to do", f"the file does not name its trainer: {method} was taken; see that it is")
    draft.set("goal.metric", "perplexity")
    draft.move("beta", "train.beta", float)
    draft.move("desirable_weight", "train.desirable_weight", float)
    draft.move("undesirable_weight", "train.undesirable_weight", float)
    draft.move("simpo_gamma", "train.gamma", float)
    if method == "dpo":
        draft.move("label_smoothing", "train.label_smoothing", float)
        loss = draft.get("loss_type", "sigmoid")
        loss = loss[0] if isinstance(loss, list) and len(loss) == 1 else loss
        if loss in _LOSSES:
            draft.set("train.loss_type", loss, "loss_type")
        else:
            draft.leave("loss_type", "no counterpart", f"losses are {', '.join(_LOSSES)}")


TOOL = Tool(
    title="TRL",
    read=hf.read_settings,
    translate=_translate,
    not_needed={
        **hf.NOT_NEEDED,
        "use_bnb_nested_quant": "train.quantization quantises the scales, too",
        "bnb_4bit_quant_type": "train.quantization: nf4 is the one there is",
        "eos_token": "the stop token is the one that the chat template writes",
        "pad_token": "rows are not padded",
        "truncation_mode": hf.NOT_NEEDED["max_prompt_length"],
        "keep_in_memory": "rows are read once, before training",
        "activation_offloading": hf.NOT_NEEDED["gradient_checkpointing*"],
        "disable_dropout": "train.dropout is the adapter's; the base has none while it trains",
    },
    without={
        **hf.WITHOUT,
        "reference_free": "dpo has a reference; simpo needs none",
        "dataset_text_field": "rows are questions and answers, not text",
    },
)
