"""Export: the folder opens in plain PEFT, complete or not at all, and never over something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.store import samples
from tunery.core.errors import ConflictError, DamagedError, NotFoundError, ResourceError
from tunery.core.ids import sha256_file
from tunery.registry.export import CARD, export
from tunery.registry.lineage import ADAPTER_WEIGHTS
from tunery.store.workspace import Workspace


@pytest.fixture
def registered(workspace: Workspace, tiny_adapters: dict[str, Path]) -> Workspace:
    """One version of a real adapter, with all its records."""
    with workspace.artifacts.create("adapters", "adapter-0000000000000001", {}) as folder:
        shutil.copytree(tiny_adapters["a"], folder, dirs_exist_ok=True)
    workspace.datasets.add(samples.dataset())
    workspace.adapters.add(samples.adapter())
    workspace.evaluations.add(samples.evaluation())
    workspace.evaluations.add(samples.evaluation("eval-few", subject="few_shot", adapter=None))
    workspace.gates.add(samples.gate())
    workspace.runs.add(samples.run(evaluations={"few_shot": "eval-few", "tuned": "eval-0000000000000001"}))
    workspace.models.register(samples.version())
    return workspace


def test_the_exported_folder_is_the_adapter_and_opens_in_plain_peft(
    registered: Workspace, tmp_path: Path, tiny_adapters: dict[str, Path], tiny_model: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = export(registered, "support-bot@1", tmp_path / "out" / "adapter")
    assert folder == tmp_path / "out" / "adapter"
    assert sha256_file(folder / ADAPTER_WEIGHTS) == sha256_file(tiny_adapters["a"] / ADAPTER_WEIGHTS)
    assert not (folder / "manifest.json").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]

    def logits(adapter: Path) -> torch.Tensor:
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        with torch.no_grad():
            return PeftModel.from_pretrained(base, adapter).eval()(torch.tensor([[1, 2, 3]])).logits

    assert torch.equal(logits(folder), logits(tiny_adapters["a"]))


def test_the_card_lies_beside_the_adapter(registered: Workspace, tmp_path: Path) -> None:
    card = (export(registered, "support-bot", tmp_path / "out") / CARD).read_text()
    assert "# support-bot@1" in card
    assert "Few-shot prompting" in card


def test_without_its_evidence_a_version_is_exported_without_a_card(
    workspace: Workspace, tmp_path: Path
) -> None:
    with workspace.artifacts.create("adapters", "adapter-0000000000000001", {}) as folder:
        (folder / ADAPTER_WEIGHTS).write_bytes(b"weights")
    workspace.models.register(samples.version())
    assert [p.name for p in export(workspace, "support-bot", tmp_path / "out").iterdir()] == [ADAPTER_WEIGHTS]


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    registered: Workspace, tmp_path: Path
) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(ConflictError, match="holds something already"):
        export(registered, "support-bot@1", target)
    with pytest.raises(ConflictError, match="holds something already"):
        export(registered, "support-bot@1", target / "thesis.txt")
    assert [p.name for p in target.iterdir()] == ["thesis.txt"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("mine")] == ["mine"]


def test_an_empty_folder_is_filled(registered: Workspace, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (export(registered, "support-bot@1", tmp_path / "out") / ADAPTER_WEIGHTS).is_file()


def test_a_damaged_adapter_is_not_exported(registered: Workspace, tmp_path: Path) -> None:
    weights = registered.artifacts.path("adapters", "adapter-0000000000000001") / ADAPTER_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="checksum differs"):
        export(registered, "support-bot@1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_that_is_gone_is_not_found(workspace: Workspace, tmp_path: Path) -> None:
    workspace.models.register(samples.version())
    with pytest.raises(NotFoundError, match="adapter-0000000000000001"):
        export(workspace, "support-bot@1", tmp_path / "out")


def test_a_destination_that_cannot_be_made_is_named(registered: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match=r"file/out cannot be written"):
        export(registered, "support-bot@1", tmp_path / "file" / "out")
