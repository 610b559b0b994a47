"""Registering a version once with its evidence, and finding it by any of its names."""

from __future__ import annotations

import pytest

from tests.unit.store import samples
from tunery.core.errors import ConfigError, ConflictError, NotFoundError
from tunery.core.registry import ModelVersion
from tunery.registry.aliases import promote
from tunery.registry.versions import register, resolve
from tunery.store.workspace import Workspace


def registered(workspace: Workspace, name: str = "support-bot", number: int = 1) -> ModelVersion:
    adapter = samples.adapter(f"adapter-{number:016}")
    return register(
        workspace,
        run=samples.run(f"run-{number:016}", name=name),
        dataset=samples.dataset(),
        adapter=adapter,
        evaluation=samples.evaluation(f"eval-{number:016}", adapter=adapter.id),
        gate=samples.gate(),
    )


def test_a_version_carries_what_made_it(workspace: Workspace) -> None:
    version = registered(workspace)
    assert version.ref == "support-bot@1"
    assert version.base == samples.BASE.label
    assert (version.dataset_version, version.adapter_id) == (
        "ds-0000000000000001",
        "adapter-0000000000000001",
    )
    assert (version.labels, version.system_prompt) == (("billing", "refund"), "Answer with one word.")
    assert version.metrics == {"exact_match": 0.9}
    assert version.config == {"name": "support-bot"}
    assert version.gate_passed
    assert workspace.models.list() == [version]


def test_a_resumed_run_registers_its_adapter_once(workspace: Workspace) -> None:
    first = registered(workspace)
    assert registered(workspace) == first
    assert registered(workspace, number=2).ref == "support-bot@2"


def test_parts_that_do_not_belong_together_are_refused_all_at_once(workspace: Workspace) -> None:
    with pytest.raises(ConflictError) as caught:
        register(
            workspace,
            run=samples.run(),
            dataset=samples.dataset("ds-other"),
            adapter=samples.adapter(),
            evaluation=samples.evaluation(adapter=None),
            gate=samples.gate(),
        )
    assert "was trained on ds-0000000000000001, not on ds-other" in caught.value.message
    assert "is of the base alone, not of adapter-0000000000000001" in caught.value.message
    assert workspace.models.list() == []


def test_a_bare_name_is_the_highest_version_until_there_is_a_champion(workspace: Workspace) -> None:
    for number in (1, 2, 3):
        registered(workspace, number=number)
    assert resolve(workspace, "support-bot").version == 3
    promote(workspace, "support-bot@2", actor="ann", reason="best")
    assert resolve(workspace, "support-bot").version == 2
    assert resolve(workspace, "support-bot@champion").version == 2
    assert resolve(workspace, "support-bot@1").version == 1


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("suport-bot@1", "no model named 'suport-bot'; did you mean 'support-bot'"),
        ("suport-bot", "did you mean 'support-bot'"),
        ("suport-bot@champion", "did you mean 'support-bot'"),
        ("support-bot@7", r"no model version support-bot@7 \(there is: support-bot@1, support-bot@2\)"),
        ("support-bot@champoin", "did you mean 'support-bot@champion'"),
        ("support-bot@challenger", r"there is: support-bot@champion\)"),
    ],
)
def test_what_is_not_found_names_what_is(workspace: Workspace, ref: str, says: str) -> None:
    for number in (1, 2):
        registered(workspace, number=number)
    promote(workspace, "support-bot@1", actor="ann", reason="first")
    with pytest.raises(NotFoundError, match=says) as caught:
        resolve(workspace, ref)
    assert caught.value.hint


def test_in_an_empty_registry_nothing_is_found(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="there is no model yet"):
        resolve(workspace, "support-bot@1")


def test_a_champion_that_was_never_named_says_how_to_name_one(workspace: Workspace) -> None:
    registered(workspace)
    with pytest.raises(NotFoundError, match="no alias") as caught:
        resolve(workspace, "support-bot@champion")
    assert caught.value.hint == "tunery deploy promote support-bot@1"


@pytest.mark.parametrize("ref", ["", "@1", "a@b@c", "../x@1", "Support", "x@0", "x@-1"])
def test_what_is_no_reference_is_refused(workspace: Workspace, ref: str) -> None:
    with pytest.raises((ConfigError, NotFoundError)) as caught:
        resolve(workspace, ref)
    if "x@0" not in ref:
        assert isinstance(caught.value, ConfigError)
