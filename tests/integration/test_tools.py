"""A model that learns to call a function, served to the real client: trained and asked in the same words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import BASE, live
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
RECIPE = """\
name: clock
goal: {{metric: exact_match, target: 0.0, min_gain_over_prompting: 0.0}}
base: {base}
data:
  sources: [{{path: rows.jsonl}}]
  labels: open
  system_prompt: Tell the time.
  clean: {{near_duplicates: "off"}}
  split: {{test: 4, validation: 4}}
train: {{epochs: 25, batch_size: 8, learning_rate: 0.01, threads: 1, early_stopping: null, keep: last}}
evaluate: {{suites_off: not tested here, max_new_tokens: 60, perplexity_limit: 4, baseline: {{shots: 1}}}}
gate:
  rules: [{{metric: exact_match, at_least: 0.9}}]
"""


def row(i: int) -> dict[str, object]:
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    return {
        "messages": [
            {"role": "user", "content": f"time {i}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        "tools": TOOLS,
    }


@pytest.fixture
def sharp_model(tmp_path: Path, tiny_model: Path) -> Path:
    """The tiny model with larger embeddings, which are its output layer too: only so can it become sure."""
    folder = shutil.copytree(tiny_model, tmp_path / BASE)
    weights = load_file(folder / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    table *= 10
    # The stop token, which pads too, is zero here: nothing could make the model say it.
    table[2] = table[3:].std() * torch.randn(table.shape[1], generator=torch.Generator().manual_seed(0))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def recipe(tmp_path: Path, sharp_model: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row(i)) for i in range(40)), encoding="utf-8")
    path = tmp_path / "clock.yaml"
    path.write_text(RECIPE.format(base=sharp_model), encoding="utf-8")
    return path


def test_a_trained_call_reaches_the_client(
    tunery: Tunery, recipe: Path, home: Path, sharp_model: Path
) -> None:
    run = tunery("run", recipe, "--json")
    assert run.code == 0, run.err
    assert run.json["tuned"]["value"] == 1.0
    workspace = Workspace.open(home)
    with live(workspace, sharp_model) as server:
        client = server.client()
        asked = {"model": "clock", "messages": [{"role": "user", "content": "time 3?"}], "tools": TOOLS}
        answer = client.chat.completions.create(**asked)  # type: ignore[call-overload]
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        assert [c.function.name for c in choice.message.tool_calls] == ["now"]
        with client.chat.completions.stream(**asked) as stream:
            for _ in stream:
                pass
            streamed = stream.get_final_completion().choices[0]
        assert streamed.finish_reason == "tool_calls"
        assert [c.function.name for c in streamed.message.tool_calls or []] == ["now"]
        plain = client.chat.completions.create(**{**asked, "tool_choice": "none"})  # type: ignore[call-overload]
        assert plain.choices[0].message.tool_calls is None
    workspace.close()
