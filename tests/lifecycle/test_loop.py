"""The whole loop with real parts: on the embedded model, killed in the middle, and refused by its gate."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.forked import forked
from tunery.core.engine import GenerationRequest, Sampling
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import parse_recipe
from tunery.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
BANKING = ROOT / "recipes" / "data" / "banking77-train.csv"


def write_rows(path: Path, *, classes: tuple[str, ...], per_class: int) -> None:
    with BANKING.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "category"])
        writer.writeheader()
        for name in classes:
            writer.writerows([r for r in rows if r["category"] == name][:per_class])


def recipe(base: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "intents",
        "goal": {"metric": "exact_match", "target": 0.8, "min_gain_over_prompting": 0.1},
        "base": base,
        "data": {
            "sources": [
                {
                    "path": "rows.csv",
                    "columns": {"input": "text", "output": "category"},
                    "label_style": "words",
                }
            ],
            "system_prompt": "Name the intent.",
            "split": {"test": 18, "validation": 6},
        },
        "train": {"epochs": 4, "batch_size": 8, "device": "cpu", "learning_rate": 0.002},
        "evaluate": {
            "suites_off": "not tested here",
            "max_new_tokens": 8,
            "baseline": {"shots": 3, "constrained": False, "perplexity": False},
        },
        **changes,
    }


@pytest.mark.slow
def test_the_embedded_model_learns_is_registered_and_answers_as_in_plain_peft(
    embedded_home: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.csv", classes=("card_arrival", "exchange_rate", "pin_blocked"), per_class=20)
    workspace = Workspace.open(embedded_home)
    parsed = parse_recipe(recipe("smollm2-135m-instruct"), where="test")
    run = run_recipe(RunContext(parsed, workspace, tmp_path, Silent()))
    assert run.status == "succeeded", run.error
    evaluations = {name: workspace.evaluations.get(i) for name, i in run.evaluations.items()}
    assert evaluations["tuned"].main.value >= 0.8
    assert evaluations["tuned"].main.value > max(
        evaluations["zero_shot"].main.value, evaluations["few_shot"].main.value
    )
    assert run.model_version == "intents@1"
    assert workspace.models.aliases("intents") == {"champion": 1}
    page = Path(run.report or "").read_text(encoding="utf-8")
    assert "intents@1" in page
    _answers_as_in_plain_peft(workspace, run.adapter_id or "")
    workspace.close()


def _answers_as_in_plain_peft(workspace: Workspace, adapter_id: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tunery.core.example import Message
    from tunery.model.tokenizer import load_tokenizer
    from tunery.serve.engines.embedded.engine import EmbeddedEngine
    from tunery.serve.engines.embedded.settings import EmbeddedSettings

    base = workspace.adapters.get(adapter_id).base.path
    folder = workspace.artifacts.path("adapters", adapter_id)
    tokenizer = load_tokenizer(base)
    prompt = tokenizer.render_prompt(
        [
            Message(role="system", content="Name the intent."),
            Message(role="user", content="where is my card?"),
        ]
    )
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    out = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, pad_token_id=2)
    expected = tokenizer.decode(out[0, len(prompt) :].tolist())
    engine = EmbeddedEngine(Path(base), settings=EmbeddedSettings(device="cpu"))
    try:
        engine.load_adapter("it", str(folder))
        (ours,) = engine.generate([GenerationRequest(prompt, "it", Sampling(max_tokens=8))])
    finally:
        engine.close()
    assert ours.text == expected


def test_a_bad_model_is_refused_by_the_gate(tiny_model: Path, workspace: Workspace, tmp_path: Path) -> None:
    # A random two-layer model cannot learn this in one step, and the gate must say so.
    write_rows(tmp_path / "rows.csv", classes=("card_arrival", "exchange_rate"), per_class=30)
    values = recipe(str(tiny_model))
    values["train"] = {"epochs": 1, "batch_size": 48, "device": "cpu"}
    run = run_recipe(RunContext(parse_recipe(values, where="test"), workspace, tmp_path, Silent()))
    assert run.status == "refused"
    assert run.model_version is None
    assert workspace.models.names() == []
    gate = workspace.gates.get(run.gate_id or "")
    assert not gate.passed
    assert any(not rule.passed and "at least 80 %" in rule.sentence for rule in gate.rules)


def test_killed_in_the_middle_of_training_and_run_again_ends_as_if_undisturbed(
    tiny_model: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.csv", classes=("card_arrival", "exchange_rate"), per_class=40)
    values = recipe(str(tiny_model))
    values["train"] = {
        "epochs": 5,
        "batch_size": 4,
        "device": "cpu",
        "validation_every": 10,
        "dropout": 0.1,
        "threads": 1,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML

    undisturbed = losses_after(tmp_path, tmp_path / "one", kill=False)
    resumed = losses_after(tmp_path, tmp_path / "two", kill=True)
    assert len(undisturbed) > 40
    assert resumed == undisturbed
    recorded = [next((tmp_path / home).glob("adapters/*/row_losses.parquet")) for home in ("one", "two")]
    assert recorded[0].read_bytes() == recorded[1].read_bytes()


def losses_after(folder: Path, home: Path, *, kill: bool) -> list[tuple[int, Any, Any]]:
    """Run the recipe in another process, kill it once if asked, and return the history it ends with."""
    command = ["--home", home, "run", folder / "recipe.yaml", "--json"]
    if kill:
        with forked(command, folder) as process:
            deadline = time.monotonic() + 120
            while not list(home.glob("checkpoints/*/checkpoint-20/manifest.json")):
                assert process.poll() is None, "ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()
        assert Workspace.open(home).runs.list()[0].status == "running"
    with forked(command, folder) as process:
        code, written = process.end()
    assert code == 5, written[-2000:]  # the tiny model learns nothing: gate refused
    workspace = Workspace.open(home)
    (adapter,) = workspace.adapters.list()
    workspace.close()
    return [(h.step, h.train_loss, h.validation_loss) for h in adapter.history]
