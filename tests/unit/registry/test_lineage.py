"""Lineage: every link back to the raw files, and every damage to it noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.store import samples
from tunery.core.dataset import SourceFile
from tunery.core.errors import NotFoundError
from tunery.core.ids import sha256_file
from tunery.core.training import ADAPTER_WEIGHTS
from tunery.model.bases import describe_base
from tunery.registry.lineage import LineageCheck, lineage, verify
from tunery.store.workspace import Workspace

FEEDBACK = SourceFile(path="feedback.jsonl", sha256="f" * 64, rows=1, shape="chat")


@pytest.fixture
def registered(workspace: Workspace, tiny_model: Path) -> Workspace:
    """One version whose dataset grew from another, with all its records and artifacts."""
    with workspace.artifacts.create("adapters", "adapter-0000000000000001", {}) as folder:
        (folder / ADAPTER_WEIGHTS).write_bytes(b"weights")
        weights = sha256_file(folder / ADAPTER_WEIGHTS)
    for id in ("ds-0000000000000001", "ds-0000000000000000"):
        with workspace.artifacts.create("datasets", id, {}) as folder:
            (folder / "train.parquet").write_bytes(id.encode())
    with workspace.artifacts.create("evaluations", "eval-0000000000000001", {}) as folder:
        (folder / "predictions.jsonl").write_text("{}")
    base = describe_base(tiny_model, name="tiny")
    workspace.datasets.add(samples.dataset("ds-0000000000000000"))
    grown = (*samples.dataset().sources, FEEDBACK)
    workspace.datasets.add(samples.dataset(parents=("ds-0000000000000000", "fbx-1"), sources=grown))
    workspace.adapters.add(samples.adapter(sha256=weights, base=base))
    workspace.evaluations.add(samples.evaluation())
    workspace.gates.add(samples.gate())
    workspace.runs.add(samples.run())
    workspace.models.register(samples.version(base=base.label))
    return workspace


def refused(workspace: Workspace) -> list[LineageCheck]:
    return [c for c in verify(workspace, lineage(workspace, "support-bot@1")) if not c.ok]


def test_the_chain_leads_back_to_the_raw_files(registered: Workspace) -> None:
    chain = lineage(registered, "support-bot")
    assert chain.model.ref == "support-bot@1"
    assert chain.run == samples.run()
    assert chain.gate == samples.gate()
    assert chain.evaluation == samples.evaluation()
    assert chain.adapter is not None
    assert chain.dataset is not None
    assert chain.dataset.parents == ("ds-0000000000000000", "fbx-1")
    assert [parent.id for parent in chain.parents] == ["ds-0000000000000000"]
    assert chain.unresolved == ("fbx-1",)
    # train.csv went into both dataset versions and is one file.
    assert [(source.path, source.sha256[0]) for source in chain.sources] == [
        ("train.csv", "0"),
        ("feedback.jsonl", "f"),
    ]


def test_an_untouched_chain_verifies(registered: Workspace) -> None:
    checks = verify(registered, lineage(registered, "support-bot@1"))
    assert [check.what for check in checks] == [
        "links of support-bot@1",
        "files of adapter-0000000000000001",
        "weights of adapter-0000000000000001",
        checks[3].what,
        "files of eval-0000000000000001",
        "files of ds-0000000000000001",
        "files of ds-0000000000000000",
    ]
    assert checks[3].what.startswith("base tiny@sha256:")
    assert all(check.ok for check in checks)


def artifact(workspace: Workspace, name: str) -> Path:
    (found,) = workspace.root.glob(f"*/*/{name}")
    return found


def change_weights(workspace: Workspace) -> None:
    artifact(workspace, ADAPTER_WEIGHTS).write_bytes(b"Weights")


def change_parent(workspace: Workspace) -> None:
    folder = workspace.artifacts.path("datasets", "ds-0000000000000000")
    (folder / "train.parquet").write_bytes(b"other rows")


def lose_dataset(workspace: Workspace) -> None:
    workspace.artifacts.delete("datasets", "ds-0000000000000001")


@pytest.mark.parametrize(
    ("damage", "noticed"),
    [
        (change_weights, ["files of adapter-0000000000000001", "weights of adapter-0000000000000001"]),
        (change_parent, ["files of ds-0000000000000000"]),
        (lose_dataset, ["files of ds-0000000000000001"]),
    ],
)
def test_damage_is_noticed_where_it_is(
    registered: Workspace, damage: Callable[[Workspace], None], noticed: list[str]
) -> None:
    damage(registered)
    assert [check.what for check in refused(registered)] == noticed


def test_weights_replaced_together_with_their_manifest_are_noticed(registered: Workspace) -> None:
    registered.artifacts.delete("adapters", "adapter-0000000000000001")
    with registered.artifacts.create("adapters", "adapter-0000000000000001", {}) as folder:
        (folder / ADAPTER_WEIGHTS).write_bytes(b"smuggled in")
    (check,) = refused(registered)
    assert check.what == "weights of adapter-0000000000000001"
    assert samples.adapter().sha256 not in check.detail
    assert "recorded" in check.detail


def test_records_that_are_gone_or_name_another_are_reported_at_once(workspace: Workspace) -> None:
    workspace.adapters.add(samples.adapter(dataset_version="ds-other"))
    workspace.gates.add(samples.gate(passed=False))
    workspace.models.register(samples.version())
    links = verify(workspace, lineage(workspace, "support-bot@1"))[0]
    assert not links.ok
    for problem in (
        "run run-0000000000000001 is no longer stored",
        "evaluation eval-0000000000000001 is no longer stored",
        "dataset version ds-0000000000000001 is no longer stored",
        "adapter-0000000000000001 was trained on ds-other",
        "gate-0000000000000001 says refused",
    ):
        assert problem in links.detail


def test_dataset_versions_that_name_each_other_do_not_go_round_for_ever(workspace: Workspace) -> None:
    workspace.datasets.add(samples.dataset(parents=("ds-b",)))
    workspace.datasets.add(samples.dataset("ds-b", parents=("ds-0000000000000001", "ds-b")))
    workspace.models.register(samples.version())
    assert [parent.id for parent in lineage(workspace, "support-bot").parents] == ["ds-b"]


def test_an_unknown_version_has_no_lineage(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError):
        lineage(workspace, "support-bot@1")
