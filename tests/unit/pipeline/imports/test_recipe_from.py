"""Other tools' configurations: what is taken means the same, what is not is named, and nothing is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunery.core.errors import ConfigError, NotFoundError
from tunery.pipeline.imports.recipe_from import Imported, recipe_from, tool_names
from tunery.pipeline.recipe import parse_recipe

AXOLOTL: dict[str, Any] = {
    "base_model": "acme/small-1b",
    "load_in_4bit": True,
    "adapter": "qlora",
    "datasets": [
        {"path": "acme/talks", "type": "chat_template", "field_messages": "conversations"},
        {"path": "rows/own.jsonl", "type": {"field_instruction": "ask", "field_output": "reply"}},
    ],
    "val_set_size": 0.05,
    "sequence_len": 2048,
    "sample_packing": True,
    "lora_r": 32,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_target_linear": True,
    "gradient_accumulation_steps": 4,
    "micro_batch_size": 2,
    "num_epochs": 3,
    "optimizer": "paged_adamw_8bit",
    "lr_scheduler": "cosine",
    "learning_rate": 2e-4,
    "warmup_steps": 10,
    "bf16": "auto",
    "wandb_project": None,
    "special_tokens": {"pad_token": "<pad>"},
    "noisy_embedding_alpha": 5,
    "hadamard": True,
}
LLAMA_FACTORY: dict[str, Any] = {
    "model_name_or_path": "/models/base",
    "stage": "dpo",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_target": "q_proj,v_proj",
    "pref_beta": 0.2,
    "pref_loss": "simpo",
    "simpo_gamma": 0.7,
    "dataset": "pairs, more",
    "template": "qwen",
    "cutoff_len": 1024,
    "max_samples": 500,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 5e-6,
    "num_train_epochs": 3.0,
    "warmup_ratio": 0.1,
    "report_to": "wandb",
    "use_galore": True,
    "flash_attn": "fa2",
}
TRL: dict[str, Any] = {
    "model_name_or_path": "acme/base-7b",
    "model_revision": "abc123",
    "dataset_name": "acme/chats",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "num_train_epochs": 1,
    "max_length": 4096,
    "optim": "muon",
    "chat_template": "{% for m in messages %}\n{{ m }}\nname: evil\n{% endfor %}",
}
SCRIPT = """
from unsloth import FastLanguageModel
import os
os.system("touch ran")
LENGTH = 512
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name="acme/base-bnb-4bit", max_seq_length=LENGTH, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(
    model, r=8, lora_alpha=16, target_modules=["q_proj"], use_rslora=True, random_state=7)
rows = load_dataset("json", data_files={"train": "rows.jsonl"}, split="train")
trainer = SFTTrainer(model=model, train_dataset=rows, args=SFTConfig(
    per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=60, warmup_steps=6,
    learning_rate=pick(), num_train_epochs=2))
"""


def imported(tool: str, folder: Path, values: Any, name: str = "config.yaml") -> Imported:
    path = folder / name
    text = values if isinstance(values, str) else yaml.safe_dump(values)
    path.write_text(text, encoding="utf-8")
    found = recipe_from(tool, path)
    again = yaml.safe_load(found.text)
    assert again == json.loads(json.dumps(found.recipe))  # comments are comments
    parse_recipe(again, where="again")
    return found


def kinds(found: Imported) -> dict[str, str]:
    return {one.key: one.kind for one in found.left}


def every_setting_is_named(found: Imported, values: dict[str, Any]) -> None:
    told = {key for one in found.taken for key in one.keys} | {one.key for one in found.left}
    assert values.keys() <= told, values.keys() - told


def test_axolotl(tmp_path: Path) -> None:
    found = imported("axolotl", tmp_path, AXOLOTL)
    train, data = found.recipe["train"], found.recipe["data"]
    assert found.recipe["base"] == "acme/small-1b@main"
    assert (train["quantization"], train["rank"], train["alpha"], train["dropout"]) == ("nf4", 32, 16.0, 0.05)
    assert (train["batch_size"], train["epochs"], train["learning_rate"]) == (8, 3.0, 2e-4)
    assert data["max_tokens"] == 2048
    assert data["split"] == {"validation": 0.05}
    assert data["sources"][0]["columns"] == {"messages": "conversations"}
    assert data["sources"][1]["columns"] == {"instruction": "ask", "output": "reply"}
    told = kinds(found)
    assert (told["hadamard"], told["special_tokens"], told["wandb_project"]) == (
        "unknown",
        "no counterpart",
        "off",
    )
    assert train["neftune_alpha"] == 5.0
    assert (told["warmup_steps"], told["optimizer"], told["sample_packing"]) == (
        "to do",
        "not needed",
        "not needed",
    )
    every_setting_is_named(found, AXOLOTL)


@pytest.mark.parametrize(("rl", "method"), [("dpo", "dpo"), ("ipo", "dpo"), ("kto", "kto"), ("orpo", "orpo")])
def test_axolotls_preferences(tmp_path: Path, rl: str, method: str) -> None:
    found = imported("axolotl", tmp_path, {**AXOLOTL, "rl": rl, "rl_beta": 0.3, "orpo_alpha": 0.3})
    assert (found.recipe["train"]["method"], found.recipe["train"]["beta"]) == (method, 0.3)
    assert found.recipe["train"].get("loss_type") == ("ipo" if rl == "ipo" else None)


@pytest.mark.parametrize(
    ("tool", "key", "values"),
    [
        ("axolotl", "chat_template", AXOLOTL),
        ("llama-factory", "template", LLAMA_FACTORY),
        ("trl", "chat_template", TRL),
    ],
)
def test_templates_that_are_known_by_name(
    tmp_path: Path, tool: str, key: str, values: dict[str, Any]
) -> None:
    assert imported(tool, tmp_path, {**values, key: "chatml"}).recipe["chat_template"] == "chatml"
    for other in ("llama3", "{{ messages }}"):
        found = imported(tool, tmp_path, {**values, key: other})
        assert "chat_template" not in found.recipe
        assert kinds(found)[key] == "to do"


def test_axolotls_alpaca_rows_bring_the_words(tmp_path: Path) -> None:
    found = imported("axolotl", tmp_path, {**AXOLOTL, "datasets": [{"path": "a/b", "type": "alpaca"}]})
    assert found.recipe["chat_template"] == "alpaca"


def test_axolotl_without_an_adapter_trains_every_weight(tmp_path: Path) -> None:
    values = {k: v for k, v in AXOLOTL.items() if k not in ("adapter", "load_in_4bit")}
    found = imported("axolotl", tmp_path, values)
    assert found.recipe["train"]["adapter"] == "none"
    assert "rank" not in found.recipe["train"]
    every_setting_is_named(found, values)


def test_llama_factory(tmp_path: Path) -> None:
    found = imported("llama-factory", tmp_path, LLAMA_FACTORY)
    train = found.recipe["train"]
    assert (train["method"], train["beta"], train["gamma"]) == ("simpo", 0.2, 0.7)
    assert (train["rank"], train["alpha"], train["target_modules"]) == (8, 16.0, ["q_proj", "v_proj"])
    assert [s["path"] for s in found.recipe["data"]["sources"]] == ["data/pairs.json", "data/more.json"]
    assert found.recipe["track"] == {"wandb": {}}
    told = kinds(found)
    assert (told["template"], told["use_galore"], told["flash_attn"]) == (
        "to do",
        "no counterpart",
        "not needed",
    )
    every_setting_is_named(found, LLAMA_FACTORY)
    with pytest.raises(ConfigError, match="stage is rm"):
        imported("llama-factory", tmp_path, {**LLAMA_FACTORY, "stage": "rm"})


def test_trl_and_texts_that_would_leave_their_comment(tmp_path: Path) -> None:
    found = imported("trl", tmp_path, TRL)
    assert found.recipe["base"] == "acme/base-7b@abc123"
    assert found.recipe["name"] == "config"
    assert found.recipe["train"]["adapter"] == "none"
    assert found.recipe["train"]["schedule"] == "cosine"
    told = kinds(found)
    assert told["lr_scheduler_type"] == told["lr_scheduler_kwargs"] == told["optim"] == "no counterpart"
    every_setting_is_named(found, TRL)
    pairs = imported(
        "trl", tmp_path, {**TRL, "beta": 0.05, "loss_type": "ipo", "use_peft": True, "lora_r": 4}
    )
    assert pairs.recipe["train"]["method"] == "dpo"
    assert (pairs.recipe["train"]["loss_type"], pairs.recipe["train"]["rank"]) == ("ipo", 4)
    odd = imported("trl", tmp_path, {**TRL, "a\nname: evil": "b\u2028base: evil"})
    assert odd.recipe["base"] == "acme/base-7b@abc123"


def test_unsloths_scripts_and_notebooks_are_read_and_never_run(tmp_path: Path) -> None:
    notebook = {
        "cells": [{"cell_type": "code", "source": ["!pip install x\n", "%time\n", *SCRIPT.splitlines(True)]}]
    }
    for name, text in (("train.py", SCRIPT), ("train.ipynb", json.dumps(notebook))):
        found = imported("unsloth", tmp_path, text, name)
        train = found.recipe["train"]
        assert (train["rank"], train["alpha"], train["target_modules"]) == (8, 16.0, ["q_proj"])
        assert (train["adapter"], train["quantization"]) == ("rslora", "nf4")
        assert (train["batch_size"], train["seed"], train["warmup_ratio"]) == (8, 7, 0.1)
        assert found.recipe["data"] == {"sources": [{"path": "rows.jsonl"}], "max_tokens": 512}
        told = kinds(found)
        assert (told["learning_rate"], told["max_steps"]) == ("to do", "no counterpart")
        assert "learning_rate" not in train
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("tool", "given", "taken", "kind"),
    [
        ("axolotl", {"chat_template": "chatml"}, "chatml", None),
        ("axolotl", {"chat_template": "tokenizer_default"}, None, "off"),
        ("axolotl", {"chat_template": "llama3"}, None, "to do"),
        (
            "axolotl",
            {"chat_template": "jinja", "chat_template_jinja": "mine.jinja"},
            "mine.jinja",
            "not needed",
        ),
        ("axolotl", {"chat_template": "jinja", "chat_template_jinja": "{{ 1 }}"}, None, "not needed"),
        ("axolotl", {"datasets": [{"path": "a/b", "type": "alpaca"}]}, "alpaca", None),
        (
            "axolotl",
            {"datasets": [{"path": "a/b", "type": "alpaca"}], "chat_template": "chatml"},
            "chatml",
            None,
        ),
        ("llama-factory", {"template": "alpaca"}, "alpaca", "to do"),
        ("llama-factory", {"template": "chatml"}, "chatml", None),
        ("trl", {"chat_template": None, "chat_template_path": "t/mine.jinja"}, "t/mine.jinja", "off"),
        ("trl", {}, None, "to do"),
        ("unsloth", "chatml", "chatml", None),
        ("unsloth", "gemma-3", None, "to do"),
    ],
)
def test_templates_are_taken_by_name_or_file(
    tmp_path: Path, tool: str, given: Any, taken: str | None, kind: str | None
) -> None:
    whole = {"axolotl": AXOLOTL, "llama-factory": LLAMA_FACTORY, "trl": TRL}
    if tool == "unsloth":
        text = f"{SCRIPT}\ntokenizer = get_chat_template(tokenizer, chat_template={given!r})\n"
        found = imported(tool, tmp_path, text, "train.py")
    else:
        found = imported(tool, tmp_path, {**whole[tool], **given})
        every_setting_is_named(found, {**whole[tool], **given})
    assert found.recipe.get("chat_template") == taken
    key = "template" if tool == "llama-factory" else "chat_template"
    assert kinds(found).get(key) == kind


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ("axolotl", "- a list"),
        ("axolotl", "a: [1"),
        ("axolotl", "lora_r: 8"),
        ("axolotl", "base_model: a/b\ndatasets: [1]"),
        ("axolotl", "base_model: a/b\nlearning_rate: fast"),
        ("axolotl", "base_model: a/b\nlora_r: many\nadapter: lora"),
        ("trl", "model_name_or_path: a/b\nlearning_rate: -1"),
        ("llama-factory", "stage: sft"),
        ("unsloth", "this is no Python"),
        ("unsloth", "print(1)"),
        ("unsloth", "(" * 5000),
    ],
)
def test_what_is_no_configuration_ends_in_words(tmp_path: Path, tool: str, text: str) -> None:
    with pytest.raises(ConfigError):
        imported(tool, tmp_path, text)


def test_tools_are_known_by_name(tmp_path: Path) -> None:
    assert tool_names() == ("axolotl", "llama-factory", "trl", "unsloth")
    with pytest.raises(NotFoundError, match="axolotl"):
        recipe_from("axolot", tmp_path / "x")
    with pytest.raises(ConfigError):
        recipe_from("axolotl", tmp_path / "not-there.yaml")
