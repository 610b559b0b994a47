"""Full fine-tuning and merged adapters: registered, judged, served, verified and exported as adapters are."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import live
from tunery.api.config import ServerSettings
from tunery.core.errors import ConfigError, DamagedError
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import Recipe, parse_recipe
from tunery.pipeline.stages.plan import plan_recipe
from tunery.registry.export import export
from tunery.registry.lineage import lineage, verify
from tunery.registry.versions import resolve
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

COLOURS, THINGS = ("red", "blue", "green", "grey", "pink", "black"), ("car", "door", "hat", "cup", "pen")
ROWS = [{"text": f"the {c} {t}", "answer": c} for c, t in itertools.product(COLOURS, THINGS)]
QUESTION = "the red door"
KINDS: dict[str, dict[str, Any]] = {
    "full": {"adapter": "none", "learning_rate": 3e-3},
    "merged": {"adapter": "lora", "rank": 4, "merge": True, "learning_rate": 1e-2},
    "adapter": {"adapter": "lora", "rank": 4, "learning_rate": 1e-2},
}


def recipe(base: Path, folder: Path, **train: Any) -> Recipe:
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS), encoding="utf-8")
    settings = {"epochs": 3, "batch_size": 6, "device": "cpu", "threads": 1, "validation_every": 4}
    values = {
        "name": "colours",
        "goal": {"metric": "exact_match", "target": 0.0, "min_gain_over_prompting": 0.0},
        "base": str(base),
        "data": {
            "sources": [{"path": "rows.jsonl", "columns": {"input": "text", "output": "answer"}}],
            "split": {"test": 6, "validation": 6},
            "clean": {"near_duplicates": False},
        },
        "train": {**settings, **train},
        "evaluate": {
            "suites_off": "not tested here",
            "max_new_tokens": 4,
            "baseline": {"few_shot": False, "constrained": False},
        },
        "gate": {"rules": [{"metric": "exact_match", "at_least": 0.0}]},
    }
    return parse_recipe(values, where="recipe")


def made(base: Path, folder: Path, workspace: Workspace, kind: str) -> str:
    run = run_recipe(RunContext(recipe(base, folder, **KINDS[kind]), workspace, folder, Silent()))
    assert run.status == "succeeded", run.error
    return str(run.model_version)


@pytest.mark.parametrize("kind", ["full", "merged"])
def test_it_is_judged_registered_served_verified_and_exported(
    tiny_model: Path, workspace: Workspace, tmp_path: Path, kind: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ref = made(tiny_model, tmp_path, workspace, kind)
    version = resolve(workspace, "colours")
    adapter = workspace.adapters.get(version.adapter_id)
    assert adapter.model is not None
    assert adapter.model.parameters == adapter.base.parameters
    evaluation = workspace.evaluations.get(version.evaluation_id)
    assert evaluation.adapter == adapter.id

    checks = verify(workspace, lineage(workspace, ref))
    assert all(check.ok for check in checks), checks
    assert f"weights of {adapter.id}" in {check.what for check in checks}

    folder = export(workspace, ref, tmp_path / "exported")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Load it in plain transformers" in card
    assert ("full fine-tuning of" in card) == (kind == "full")
    assert not {"record.json", "manifest.json", "model"} & {p.name for p in folder.iterdir()}
    plain: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": QUESTION}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        logits = plain(**inputs).logits[0, -1].log_softmax(-1)

    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=settings) as running:
        client = running.client()
        asked: dict[str, Any] = {
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": 1,
            "logprobs": True,
        }
        tuned, bare = (
            client.chat.completions.create(model=model, **asked).choices[0].logprobs.content[0]  # type: ignore[union-attr,index]
            for model in ("colours", "tiny-llama")
        )
        assert tuned.logprob == pytest.approx(float(logits.max()), abs=1e-3)
        assert tuned.logprob != pytest.approx(bare.logprob, abs=1e-2)
        base_open = len(running.bases._served)
        client.models.delete(ref)
        assert len(running.bases._served) == base_open - 1


def test_a_champion_of_one_kind_is_compared_with_a_challenger_of_another(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    first = made(tiny_model, tmp_path, workspace, "adapter")
    workspace.models.set_alias("colours", "champion", 1, actor="test", reason="first")
    second = made(tiny_model, tmp_path, workspace, "full")
    workspace.models.set_alias("colours", "champion", 2, actor="test", reason="second")
    third = made(tiny_model, tmp_path, workspace, "merged")
    assert [first, second, third] == ["colours@1", "colours@2", "colours@3"]
    runs = {run.model_version: run for run in workspace.runs.list(10)}
    for challenger, champion in ((second, first), (third, second)):
        of_champion = workspace.evaluations.get(runs[challenger].evaluations["champion"])
        assert of_champion.adapter == resolve(workspace, champion).adapter_id
        judged = workspace.evaluations.get(resolve(workspace, champion).evaluation_id)
        assert of_champion.metrics["exact_match"].value == judged.metrics["exact_match"].value


def test_an_adapter_is_exported_merged(tiny_model: Path, workspace: Workspace, tmp_path: Path) -> None:
    ref = made(tiny_model, tmp_path, workspace, "adapter")
    folder = export(workspace, ref, tmp_path / "merged", form="merged")
    assert not (folder / "adapter_config.json").exists()
    assert "LoRA adapter merged into" in (folder / "README.md").read_text(encoding="utf-8")
    adapter = load_file(export(workspace, ref, tmp_path / "adapter") / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    before = load_file(tiny_model / "model.safetensors")[f"{name}.weight"]
    after = load_file(folder / "model.safetensors")[f"{name}.weight"]
    scale = workspace.adapters.list(1)[0].config["alpha"] / 4
    assert torch.allclose(after, before + scale * b @ a, atol=1e-6)
    # What was exported is a base that a recipe can start from.
    again = recipe(folder, tmp_path, **KINDS["adapter"])
    assert plan_recipe(RunContext(again, workspace, tmp_path, Silent())).steps > 0


def test_the_command_says_what_it_wrote(tunery: Tunery, tiny_model: Path, tmp_path: Path) -> None:
    written = recipe(tiny_model, tmp_path, **KINDS["adapter"]).model_dump(mode="json")
    (tmp_path / "recipe.yaml").write_text(json.dumps(written), encoding="utf-8")
    assert tunery("run", str(tmp_path / "recipe.yaml")).code == 0
    for options, words in (([], "an adapter on"), (["--merged"], "all weights, from")):
        folder = str(tmp_path / f"out{len(options)}")
        out = tunery("registry", "export", "colours", folder, *options)
        assert out.code == 0, out.err
        assert words in " ".join(out.out.split())


@pytest.mark.parametrize("kind", ["full", "merged"])
def test_altered_weights_never_answer(
    tiny_model: Path, workspace: Workspace, tmp_path: Path, kind: str
) -> None:
    ref = made(tiny_model, tmp_path, workspace, kind)
    adapter = workspace.adapters.get(resolve(workspace, ref).adapter_id)
    weights = workspace.root / "adapters" / adapter.id / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    failed = [check for check in verify(workspace, lineage(workspace, ref)) if not check.ok]
    assert {check.what for check in failed} == {f"files of {adapter.id}", f"weights of {adapter.id}"}
    with pytest.raises(DamagedError):
        export(workspace, ref, tmp_path / "exported")
    with live(workspace, tiny_model) as running:
        answered = running.call(
            "POST",
            "/v1/chat/completions",
            {"model": ref, "messages": [{"role": "user", "content": "hi"}]},
        )
        assert (answered.status, answered.json()["error"]["code"]) == (409, "damaged")
    # The same run makes them again, equal to the bit.
    again = run_recipe(RunContext(recipe(tiny_model, tmp_path, **KINDS[kind]), workspace, tmp_path, Silent()))
    assert again.status == "succeeded", again.error
    assert all(check.ok for check in verify(workspace, lineage(workspace, ref)))


def test_an_adapter_with_whole_modules_beside_it_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no engine serves .*; merge: true"):
        recipe(tiny_model, tmp_path, rank=4, modules_to_save=["lm_head"])


def test_a_home_moves_with_its_whole_models(tiny_model: Path, workspace: Workspace, tmp_path: Path) -> None:
    ref = made(tiny_model, tmp_path, workspace, "full")
    moved = tmp_path / "moved"
    shutil.copytree(workspace.root, moved)
    other = Workspace.open(moved, database_url=f"sqlite:///{moved / 'tunery.db'}")
    shutil.rmtree(workspace.root / "adapters")
    with live(other, tiny_model) as running:
        answered = running.client().chat.completions.create(
            model=ref, messages=[{"role": "user", "content": QUESTION}], max_tokens=2
        )
    assert answered.model == ref
    other.close()


def test_the_next_plan_expects_what_the_last_training_took(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    wanted = recipe(tiny_model, tmp_path, **KINDS["adapter"])
    context = RunContext(wanted, workspace, tmp_path, Silent())
    assert "earlier training" not in plan_recipe(context).estimates[0].because
    made(tiny_model, tmp_path, workspace, "adapter")
    adapter = workspace.adapters.list(1)[0]
    found = plan_recipe(RunContext(wanted, workspace, tmp_path, Silent()))
    assert "1 earlier training of this recipe" in found.estimates[0].because
    assert found.training_s == pytest.approx(adapter.seconds, rel=1e-6)
    other = recipe(tiny_model, tmp_path, **{**KINDS["adapter"], "adapter": "dora"})
    found = plan_recipe(RunContext(other, workspace, tmp_path, Silent()))
    assert "earlier training" not in found.estimates[0].because
