"""The pure parts of the gateway."""

from __future__ import annotations

import pytest

from tunery.core.engine import Constraint
from tunery.core.registry import ModelVersion
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.gateway import format_is_valid, subject_of
from tunery.pipeline.gateway.names import Target
from tunery.store.workspace import Workspace

INFO = BaseModelInfo(name="tiny", sha256="0" * 64, path="/nowhere", parameters=1)


def target(
    workspace: Workspace, labels: tuple[str, ...] | None = None, metrics: tuple[str, ...] = ()
) -> Target:
    version = ModelVersion(
        name="bot",
        version=1,
        adapter_id="adapter-0",
        base=INFO.label,
        dataset_version="ds-0",
        evaluation_id="eval-0",
        gate_id="gate-0",
        gate_passed=True,
        run_id="run-0",
        system_prompt=None,
        labels=labels,
        config={},
        metrics=dict.fromkeys(metrics, 1.0),
        created_at=workspace.clock.now(),
    )
    return Target(INFO, version, None, None, None)


def test_labels_and_json_are_expected_of_a_version_that_was_trained_on_them(workspace: Workspace) -> None:
    labelled = target(workspace, labels=("card", "loan"))
    assert format_is_valid(" card\n", labelled, None) is True
    assert format_is_valid("cards", labelled, None) is False
    json_like = target(workspace, metrics=("valid_json", "exact_match"))
    assert format_is_valid('{"a": 1}', json_like, None) is True
    assert format_is_valid('{"a": 1', json_like, None) is False
    assert format_is_valid("anything", target(workspace), None) is None
    assert format_is_valid("anything", Target(INFO, None, None, None, None), None) is None


@pytest.mark.parametrize(
    ("constraint", "text", "valid"),
    [
        (Constraint(labels=("yes",)), "yes", True),
        (Constraint(labels=("yes",)), "card", False),
        (Constraint(json_schema={}), "[1]", True),
        (Constraint(json_schema={}), "card", False),
    ],
)
def test_what_the_request_asks_for_counts_before_what_the_version_was_trained_on(
    workspace: Workspace, constraint: Constraint, text: str, valid: bool
) -> None:
    assert format_is_valid(text, target(workspace, labels=("card",)), constraint) is valid


def test_a_subject_is_one_user_or_one_key_and_tells_neither() -> None:
    assert subject_of("jane", "key-1") == subject_of("jane", "key-2")
    assert subject_of(None, "key-1") != subject_of(None, "key-2")
    assert subject_of("key-1", None) != subject_of(None, "key-1")
    assert "jane" not in subject_of("jane", None)
