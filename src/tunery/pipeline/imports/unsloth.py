"""Unsloth's scripts and notebooks: the keyword arguments of its calls, read without running anything."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError
from tunery.pipeline.imports import hf_arguments as hf
from tunery.pipeline.imports import trl
from tunery.pipeline.imports.draft import Draft, Tool

_LORA = hf.LoraKeys(rank="r", alpha="lora_alpha", dropout="lora_dropout", targets="target_modules")
_CALLS = {
    "from_pretrained": "model",
    "get_peft_model": "adapter",
    "get_chat_template": "template",
    "train_on_responses_only": "responses",
    "load_dataset": "data",
    "SFTConfig": "arguments",
    "DPOConfig": "arguments",
    "ORPOConfig": "arguments",
    "KTOConfig": "arguments",
    "TrainingArguments": "arguments",
    "UnslothTrainingArguments": "arguments",
    "SFTTrainer": "trainer",
    "DPOTrainer": "trainer",
    "ORPOTrainer": "trainer",
    "KTOTrainer": "trainer",
    "UnslothTrainer": "trainer",
}
_METHODS = {"DPOTrainer": "dpo", "ORPOTrainer": "orpo", "KTOTrainer": "kto"}
_OBJECTS = frozenset({"model", "tokenizer", "processing_class", "train_dataset", "eval_dataset", "args"})
"""Arguments that hand on objects, not settings."""


def _read(path: Path) -> dict[str, Any]:
    """Return the arguments of the calls that load, adapt and train, those of a later call last.

    Raises:
        ConfigError: It is no Python, or calls none of Unsloth's functions.
    """
    try:
        tree = ast.parse(_source(path))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path}: cannot be read as Python ({error})") from None
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: dict[str, Any] = {}
    for name, call in _calls(tree):
        found.update({k: v for k, v in _arguments(name, call, constants).items() if k not in _OBJECTS})
        if name in _METHODS:
            found["trainer"] = name
    if "model_name" not in found:
        raise ConfigError(f"{path}: no call of FastLanguageModel.from_pretrained with a model_name")
    return found


def _source(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text).get("cells", [])
    lines = [
        line
        for cell in cells
        if cell.get("cell_type") == "code"
        for line in "".join(cell.get("source", [])).splitlines()
    ]
    shell = ("!", "%")
    return "\n".join(
        f"{line[: len(line) - len(line.lstrip())]}pass" if line.lstrip().startswith(shell) else line
        for line in lines
    )


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _CALLS:
                yield name, node


def _arguments(name: str, call: ast.Call, constants: dict[str, ast.expr]) -> dict[str, Any]:
    given = {k.arg: _value(k.value, constants) for k in call.keywords if k.arg}
    positional = [_value(argument, constants) for argument in call.args]
    if name == "load_dataset":
        files = given.get("data_files")
        files = next(iter(files.values())) if isinstance(files, dict) and files else files
        files = files[0] if isinstance(files, list) and files else files
        named = files or given.get("path") or (positional[0] if positional else None)
        return {"load_dataset": named} if isinstance(named, str) else {}
    if name == "from_pretrained" and "model_name" not in given:
        return {**given, "model_name": positional[0]} if positional and "max_seq_length" in given else {}
    if name == "get_chat_template":
        return {"chat_template": given["chat_template"]} if "chat_template" in given else {}
    if name == "train_on_responses_only":
        return {"train_on_responses_only": True}
    return given


def _value(node: ast.expr, constants: dict[str, ast.expr]) -> Any:
    if isinstance(node, ast.Name) and node.id in constants:
        node = constants[node.id]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return f"<{ast.unparse(node)[:60]}>"


def _translate(draft: Draft) -> None:
    computed = [k for k, v in draft.values.items() if isinstance(v, str) and v.startswith("<")]
    for key in computed:
        draft.leave(key, "to do", "it is computed while the script runs; see what it becomes")
        draft.values[key] = None
    hf.take_base(draft, "model_name")
    if str(draft.values["model_name"]).endswith(("-bnb-4bit", "-4bit")):
        draft.note("model_name", "to do", "take the base that this was quantised from, not its four bits")
    named = draft.get("load_dataset", "rows.jsonl")
    draft.set("data.sources", [{"path": hf.rows_at(draft, "load_dataset", str(named))}], "load_dataset")
    method = _METHODS.get(str(draft.get("trainer")), "sft")
    draft.set("train.method", method, "trainer")
    if method != "sft":
        draft.set("goal.metric", "perplexity")
        draft.move("beta", "train.beta", float)
    draft.move("max_seq_length", "data.max_tokens", int)
    draft.move("max_length", "data.max_tokens", int)
    if draft.get("full_finetuning"):
        draft.set("train.adapter", "none", "full_finetuning")
    else:
        trl.take_kind(draft)
        hf.take_lora(draft, _LORA, rank=16, alpha=16, dropout=0.0)
        if draft.get("load_in_4bit", True) and not draft.values.get("load_in_8bit"):
            draft.set("train.quantization", "nf4", "load_in_4bit")
    if draft.get("load_in_8bit"):
        draft.leave("load_in_8bit", "no counterpart", "the base is held whole, or in four bits (nf4)")
    if draft.get("random_state") is not None and draft.values.get("seed") is None:
        draft.set("train.seed", int(draft.values["random_state"]), "random_state")
    hf.take_arguments(draft)
    if draft.get("train_on_responses_only"):
        draft.leave("train_on_responses_only", "not needed", "answers alone are trained, as is the default")
    hf.take_template(draft, "chat_template")
    for key in ("formatting_func", "dataset_text_field"):
        draft.leave(
            key, "to do", "rows are mapped by data.sources[0].columns, and the chat template writes them"
        )


TOOL = Tool(
    title="Unsloth",
    read=_read,
    translate=_translate,
    not_needed={
        **hf.NOT_NEEDED,
        "use_gradient_checkpointing": hf.NOT_NEEDED["gradient_checkpointing*"],
        "random_state": "train.seed",
        "fast_inference": "tunery serve answers",
        "gpu_memory_utilization": "tunery serve answers",
        "max_lora_rank": "tunery serve answers",
        "data_collator": "rows are packed",
        "callbacks": "tunery train has its own",
        "float32_mixed_precision": "train.dtype",
        "unsloth_*": "attention over shared beginnings is the project's own",
    },
    without={
        **hf.WITHOUT,
        "embedding_learning_rate": "every weight has the same learning rate; train.lora_plus_ratio",
        "finetune_vision_layers": "models read text alone",
        "finetune_*": "train.target_modules says which layers are adapted",
        "rope_scaling": "positions are the base's",
        "peft_config": "train.adapter, train.rank and train.target_modules say it",
        "ref_model": hf.WITHOUT["ref_model*"],
    },
)
