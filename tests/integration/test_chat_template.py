"""A template in the recipe: what is trained, judged, served and exported writes prompts the same way."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import live
from tunery.api.config import ServerSettings
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.model.bases import resolve_base
from tunery.model.chat_templates import INPUT_HEADING
from tunery.model.tokenizer import load_tokenizer
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import Recipe, parse_recipe
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.preflight import check_before_training
from tunery.pipeline.stages.train import adapter_id
from tunery.registry.export import export
from tunery.registry.lineage import lineage, verify
from tunery.registry.versions import resolve
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

COLOURS, THINGS = ("red", "blue", "green", "grey", "pink", "black"), ("car", "door", "hat", "cup", "pen")
ROWS = [
    {"instruction": "Name the colour.", "input": f"the {c} {t}", "output": c}
    for c, t in itertools.product(COLOURS, THINGS)
]
QUESTION = f"Name the colour.{INPUT_HEADING}the red door"


def recipe(base: Path, folder: Path, *, template: str | None, **train: Any) -> Recipe:
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS), encoding="utf-8")
    return parse_recipe(
        {
            "name": "colours",
            "goal": {"metric": "exact_match", "target": 0.0, "min_gain_over_prompting": 0.0},
            "base": str(base),
            "chat_template": template,
            "data": {
                "sources": [{"path": "rows.jsonl"}],
                "split": {"test": 6, "validation": 6},
                "clean": {"near_duplicates": False},
            },
            "train": {
                "epochs": 2,
                "batch_size": 6,
                "rank": 4,
                "learning_rate": 1e-2,
                "device": "cpu",
                "threads": 1,
                "validation_every": 4,
                **train,
            },
            "evaluate": {
                "suites_off": "not tested here",
                "max_new_tokens": 4,
                "baseline": {"few_shot": False, "constrained": False},
            },
            "gate": {"rules": [{"metric": "exact_match", "at_least": 0.0}]},
        },
        where="recipe",
    )


def bare(base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.mark.parametrize("merge", [False, True])
def test_a_base_without_a_template_is_trained_judged_served_and_exported_with_alpacas(
    tiny_model: Path, workspace: Workspace, tmp_path: Path, merge: bool
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    base = bare(tiny_model, tmp_path / "bare")
    context = RunContext(
        recipe(base, tmp_path, template="alpaca", merge=merge), workspace, tmp_path, Silent()
    )
    found = check_before_training(context, make_dataset(context))
    assert found.passed, [check.sentence for check in found.checks if not check.passed]
    shown = "".join(token.text for token in found.samples[0].tokens)
    assert "### Instruction:\nName the colour.\n\n### Input:\nthe " in shown

    run = run_recipe(context)
    assert run.status == "succeeded", run.error
    version = resolve(workspace, "colours")
    adapter = workspace.adapters.get(version.adapter_id)
    assert adapter.base.chat_template == "alpaca"
    assert all(check.ok for check in verify(workspace, lineage(workspace, version.ref)))

    folder = export(workspace, version.ref, tmp_path / "exported")
    plain: Any = AutoModelForCausalLM.from_pretrained(folder if merge else base)
    plain = plain.eval() if merge else PeftModel.from_pretrained(plain, folder).eval()
    hf = AutoTokenizer.from_pretrained(folder if merge else base)
    if not merge:  # as the card says
        hf.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert f'BASE = "{base}"' in card
        assert "tokenizer.chat_template = " in card
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [2]
    inputs = hf.apply_chat_template(
        [{"role": "user", "content": QUESTION}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert "### Input:\nthe red door\n\n### Response:" in hf.decode(inputs["input_ids"][0])
    with torch.no_grad():
        logits = plain(**inputs).logits[0, -1].log_softmax(-1)

    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=settings) as running:
        asked: dict[str, Any] = {"max_tokens": 1, "logprobs": True}
        for messages in (
            [{"role": "user", "content": QUESTION}],
            [{"role": "system", "content": "Name the colour."}, {"role": "user", "content": "the red door"}],
        ):
            answered = running.client().chat.completions.create(
                model="colours",
                messages=messages,  # type: ignore[arg-type]
                **asked,
            )
            assert answered.usage.prompt_tokens == inputs["input_ids"].shape[1]
            token = answered.choices[0].logprobs.content[0]
            assert token.logprob == pytest.approx(float(logits.max()), abs=1e-3)


def test_a_template_makes_another_adapter_and_none_leaves_ids_as_they_were(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    ids, prompts = [], []
    for template in (None, "chatml", "alpaca"):
        context = RunContext(recipe(tiny_model, tmp_path, template=template), workspace, tmp_path, Silent())
        dataset = make_dataset(context)
        ids.append(adapter_id(context, dataset))
        prompts.append(dataset.id)
        written = context.recipe.model_dump(mode="json")["data"]["sources"][0]
        assert ("before_input" in written) == (template == "alpaca")  # else ids of runs would change
    assert len(set(ids)) == 3
    assert prompts[0] == prompts[1] != prompts[2]  # ids of datasets go by what their rows say


def test_a_home_that_moved_finds_its_bases_again(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    from tunery.store.adapters import base_here

    made = resolve_base(str(tiny_model), workspace.root / "models", chat_template="alpaca")
    stale = made.with_(path=str(tmp_path / "before" / Path(made.path).name))
    assert base_here(workspace, stale) == made


def test_a_server_serves_a_base_without_a_template_where_it_is_given_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    base = bare(tiny_model, tmp_path / "bare")
    with pytest.raises(ConfigError, match="chat_template: chatml"):
        resolve_base(str(base), tmp_path / "m")
    settings = ServerSettings(base=str(base), chat_template="chatml")
    made = resolve_base(settings.base, tmp_path / "m", chat_template=settings.chat_template)
    assert load_tokenizer(made.path).stop_ids == {2}


def test_the_doctor_looks_at_rows_through_the_template(
    tunery: Tunery, home: Path, tiny_model: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(r) + "\n" for r in ROWS), encoding="utf-8")
    base = bare(tiny_model, tmp_path / "bare")
    written = tmp_path / "recipe.yaml"
    shown = tunery(
        "doctor", str(rows), "--base", str(base), "--chat-template", "alpaca", "--write", str(written)
    )
    assert "### Input:" in shown.out
    assert "chat_template: alpaca" in written.read_text(encoding="utf-8")
    assert "before_input" not in written.read_text(encoding="utf-8")
    refused = tunery("doctor", str(rows), "--base", str(base), "--json")
    assert refused.code == 2
    assert "chat_template: chatml" in refused.error["hint"]
