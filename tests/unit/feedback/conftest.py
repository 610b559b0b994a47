"""A model with a dataset version laid out as the data stage lays it out, and requests it served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Message
from tunery.core.registry import ModelVersion
from tunery.core.rollout import RequestRecord
from tunery.feedback import collect
from tunery.store.dataset_files import EXAMPLE_SCHEMA, EXAMPLES, write_parquet
from tunery.store.workspace import Workspace

NOW = datetime(2026, 3, 1, tzinfo=UTC)

Rows = Sequence[tuple[str, str]]
"""Split and prompt."""


def add_dataset(
    workspace: Workspace, id: str, rows: Rows, *, name: str = "bot", parents: tuple[str, ...] = ()
) -> None:
    """Store a dataset version: its record, and its table."""
    table = [
        {
            "id": f"ex-{id}-{i}",
            "split": split,
            "source": "rows.csv",
            "row": i + 1,
            "messages": [
                {"role": "system", "content": "Name the intent.", "weight": 1},
                {"role": "user", "content": prompt, "weight": 1},
                {"role": "assistant", "content": "card_arrival", "weight": 1},
            ],
            "rejected": None,
            "group": f"ex-{id}-{i}",
            "label": "card_arrival",
            "metadata": "{}",
        }
        for i, (split, prompt) in enumerate(rows)
    ]
    with workspace.artifacts.create("datasets", id, {}) as folder:
        write_parquet(table, folder / EXAMPLES, EXAMPLE_SCHEMA)
    add_dataset_record(workspace, id, name=name, parents=parents)


def add_dataset_record(
    workspace: Workspace, id: str, *, name: str = "bot", parents: tuple[str, ...] = ()
) -> None:
    workspace.datasets.add(
        DatasetVersion(
            id=id,
            name=name,
            content_sha256="0",
            created_at=NOW,
            sources=(),
            parents=parents,
            config={},
            rows_read=0,
            rows_kept=0,
            dropped={},
            masked={},
            splits={},
        )
    )


def add_model(workspace: Workspace, dataset: str, name: str = "bot") -> ModelVersion:
    return workspace.models.register(
        ModelVersion(
            name=name,
            version=1,
            adapter_id="adapter-0",
            base="tiny@sha256:0",
            dataset_version=dataset,
            evaluation_id="eval-0",
            gate_id="gate-0",
            gate_passed=True,
            run_id="run-0",
            system_prompt="Name the intent.",
            config={},
            metrics={},
            created_at=NOW,
        )
    )


Serve = Callable[..., RequestRecord]


@pytest.fixture
def serve(workspace: Workspace) -> Serve:
    """Return a function that logs one served request."""
    counter = iter(range(10**9))

    def serve(prompt: str | Sequence[tuple[str, str]], completion: str = "lost_card", **more: Any) -> Any:
        turns = [("user", prompt)] if isinstance(prompt, str) else prompt
        return workspace.requests.add(
            RequestRecord(
                **{
                    "id": f"chatcmpl-{next(counter)}",
                    "created_at": NOW,
                    "endpoint": "bot",
                    "model": "bot@1",
                    "subject": "user-1",
                    "messages": tuple(Message(role=r, content=c) for r, c in turns),
                    "completion": completion,
                    "status": "ok",
                    **more,
                }
            )
        )

    return serve


@pytest.fixture
def bot(workspace: Workspace) -> Workspace:
    """``bot@1``, trained on ``ds-1`` with one validation and one test row."""
    rows = [
        ("train", "How do I order a card?"),
        ("validation", "Can I choose the PIN of my new card myself?"),
        ("test", "I was charged twice for the same purchase at the supermarket yesterday"),
    ]
    add_dataset(workspace, "ds-1", rows)
    add_model(workspace, "ds-1")
    return workspace


def accepted(workspace: Workspace, request: RequestRecord, **fields: Any) -> str:
    """Record and accept one piece of feedback; returns its id."""
    written = collect.record(workspace, request.id, collect.GivenFeedback(**fields), author="user")
    return workspace.feedback.review(written.id, accepted=True, reviewer="rita").id
