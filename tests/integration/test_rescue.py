"""A rescue's first half against a double of its source: what is there is kept, and nothing there changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.openai_source import KEY, OpenAISource, chat_row, serving
from tests.fixtures_cli import Tunery, home, tunery

__all__ = ["home", "tunery"]

ROWS = [chat_row(f"question {n}", f"answer {n}") for n in range(12)]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAISource]:
    """An account with two fine-tuned models, the training file of one deleted."""
    monkeypatch.setenv("SOURCE_KEY", KEY)
    account = OpenAISource()
    account.add_fine_tune("Ab1", ROWS, validation=ROWS[:3], shutdown_date="2027-01-14")
    account.add_fine_tune("Cd2", ROWS, base="gpt-4.1-mini-2025-04-14")
    account.delete_file("file-trainCd2")
    with serving(account):
        yield account


def scope(source: OpenAISource, **more: str) -> str:
    """Return what is typed behind ``--scope``."""
    fields = {"base-url": source.url, "key-env": "SOURCE_KEY", **more}
    return ",".join(f"{name}={value}" for name, value in fields.items())


def test_inventory_reads_all_that_there_is_and_changes_nothing(source: OpenAISource, tunery: Tunery) -> None:
    found = tunery("rescue", "inventory", "--scope", scope(source), "--json")
    assert found.code == 0, found.err
    inventory = found.json["inventory"]
    assert [job["id"] for job in inventory["jobs"]] == ["ftjob-Cd2", "ftjob-Ab1"]
    assert {file["id"]: file["state"] for file in inventory["files"]} == {
        "file-trainAb1": "listed", "file-validAb1": "listed", "file-resultAb1": "listed",
        "file-resultCd2": "listed", "file-trainCd2": "gone",
    }  # fmt: skip
    models = {model["id"]: model["shutdown"] for model in inventory["models"]}
    assert models["ft:gpt-4o-mini-2024-07-18:acme::Ab1"] == {"on": "2027-01-14", "source": "api"}
    assert models["ft:gpt-4.1-mini-2025-04-14:acme::Cd2"]["source"] != "api"
    assert source.writes == set()
